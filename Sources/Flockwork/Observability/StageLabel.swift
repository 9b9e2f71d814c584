// Flockwork · Apache-2.0 · see LICENSE

// A stage that runs a model is named after the model's file, wherever that lies. A label must not differ from host to
// host, nor tell of folders.

/// A stage's name for people and for metrics.
enum StageLabel {
    /// The name, with the folders of files left out: `linear /srv/models/a.json` becomes `linear a.json`.
    static func text(_ name: String) -> String {
        name.split(separator: "+").map { step in
            guard let first = step.firstIndex(of: "/"), let last = step.lastIndex(of: "/") else { return step }
            let kind = step[..<first].lastIndex(of: " ").map { step[...$0] } ?? ""
            return kind + step[step.index(after: last)...]
        }.joined(separator: "+")
    }
}

extension StageStatus {
    /// The stage as metrics label it: its name without the folders of model files.
    public var label: String { StageLabel.text(stage) }
}
