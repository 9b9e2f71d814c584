// Flockwork · Apache-2.0 · see LICENSE

internal import FlockWire

// What callers see of an exception: its last line, cut, and without what tells of the machine where it happened. The
// traceback is for the log.

extension PythonException {
    /// "ValueError: no such thing".
    var lastLine: String { message.isEmpty ? type : "\(type): \(message)" }

    /// For the caller whose items the handler raised over.
    func error(limits: Limits, stage: String) -> FlockError {
        FlockError(
            .pythonFailed,
            "The Python handler raised \(lastLine.withoutPaths.cut(to: limits.errorTextBytes / 2))", stage: stage)
    }

    /// For whoever starts the node: everything.
    func loadError(of name: String) -> FlockError {
        FlockError(.pythonFailed, "The Python handler \(name) cannot be loaded: \(lastLine)\n\(traceback)")
    }
}

extension String {
    /// Absolute paths become their last component, and addresses of memory `0x…`.
    var withoutPaths: String {
        var result = ""
        var isWithin = false
        var word = ""
        func shown() -> String {
            if word.hasPrefix("0x"), word.count > 6 { return "0x…" }
            guard isWithin, let slash = word.lastIndex(of: "/") else { return word }
            return "…" + word[slash...]
        }
        for character in self {
            if character == "/" && word.isEmpty { isWithin = true }
            if character.isWhitespace || "'\"()[]{}<>,;:=".contains(character) {
                result += shown()
                result.append(character)
                (word, isWithin) = ("", false)
            } else {
                word.append(character)
            }
        }
        return result + shown()
    }

    /// At most `limit` bytes of UTF-8, not within a character.
    func cut(to limit: Int) -> String {
        guard utf8.count > limit else { return self }
        var bytes = 0
        return String(
            prefix { character in
                bytes += character.utf8.count
                return bytes <= limit - 3
            }) + "…"
    }
}
