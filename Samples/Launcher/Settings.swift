// Flockwork · Apache-2.0 · see LICENSE

// Where the launcher's values come from: flags > FLOCKWORK_… environment > JSON file > defaults. Each value remembers
// its origin, so that `launcher config` can tell an operator why a node does what it does.

import Configuration
import Flockwork
import Foundation
import Synchronization

/// The names of the values. The raw value is the key in the JSON file; `--flag-name` and `FLOCKWORK_NAME` follow.
enum Setting: String, CaseIterable, Sendable {
    case id, host, port, nodes, members, bootstrap, join, label, dataFolder, durable, admin, clusterID, tokenFile
    case clientTokenFile, insecure, cores, logLevel, model, requests, window, lanes

    enum Kind { case text, number(ClosedRange<Int>), flag }

    var kind: Kind {
        switch self {
        case .id, .host, .members, .join, .label, .dataFolder, .admin, .clusterID, .tokenFile: .text
        case .clientTokenFile, .logLevel, .model: .text
        case .port: .number(0...65_535)
        case .nodes: .number(1...64)
        case .bootstrap: .number(1...5)
        case .cores: .number(1...1024)
        case .requests: .number(1...2_000_000_000)
        case .window: .number(1...1_000_000)
        case .lanes: .number(1...64)
        case .insecure, .durable: .flag
        }
    }

    /// As `--flag-name` and `launcher config` spell it.
    var flagName: String {
        switch self {
        case .clusterID: "cluster-id"
        case .tokenFile: "token-file"
        case .clientTokenFile: "client-token-file"
        case .dataFolder: "data-folder"
        case .logLevel: "log-level"
        default: rawValue
        }
    }

    var environmentName: String {
        "FLOCKWORK_" + flagName.uppercased().replacingOccurrences(of: "-", with: "_")
    }

    var standard: String? {
        switch self {
        case .id: "node-1"
        case .host: "127.0.0.1"
        case .port: "7400"
        case .nodes: "1"
        case .members, .join, .label: ""
        case .clusterID: "flockwork"
        case .insecure, .durable: "false"
        case .logLevel: "notice"
        case .model: "logistic"
        case .requests: "1000000"
        case .window: "16384"
        case .lanes: "4"
        case .tokenFile, .clientTokenFile, .dataFolder, .admin, .cores, .bootstrap: nil
        }
    }

    /// Its value must not be printed as it is.
    var isSecret: Bool { self == .tokenFile || self == .clientTokenFile }
}

/// A value and where it came from.
struct Origin: Sendable, Equatable {
    var value: String?
    var source: String
}

/// The effective values.
struct Settings: Sendable {
    private(set) var origins: [Setting: Origin]

    /// Resolves all values.
    ///
    /// - Parameters:
    ///   - flags: what the command line gave.
    ///   - file: the JSON file; nil looks for `FLOCKWORK_CONFIG_FILE` in the environment, and does without.
    ///   - defaults: defaults of the sub-command, instead of the general ones.
    ///
    /// Throws `invalidInput`, naming the value and where it came from.
    static func resolve(
        flags: [Setting: String], file: String?, environment: [String: String],
        defaults: [Setting: String] = [:]
    ) async throws(FlockError) -> Settings {
        let path = file ?? environment["FLOCKWORK_CONFIG_FILE"]
        let origin = OriginReporter()
        var providers: [any ConfigProvider] = [
            InMemoryProvider(name: "flags", values: values(flags)),
            EnvironmentVariablesProvider(environmentVariables: environment).prefixKeys(with: "flockwork"),
        ]
        if let path { providers.append(try await fileProvider(path)) }
        let reader = ConfigReader(providers: providers, accessReporter: origin)
        var origins: [Setting: Origin] = [:]
        for setting in Setting.allCases {
            let value: String?
            do {
                value = try await read(setting, reader)
            } catch {
                throw FlockError(
                    .invalidInput, "\(origin.source(setting, path)): not \(setting.expectation)", cause: error)
            }
            if let value {
                try setting.check(value, from: origin.source(setting, path))
                origins[setting] = Origin(value: value, source: origin.source(setting, path))
            } else {
                origins[setting] = Origin(value: defaults[setting] ?? setting.standard, source: "default")
            }
        }
        return Settings(origins: origins)
    }

    private static func values(_ flags: [Setting: String]) -> [AbsoluteConfigKey: ConfigValue] {
        var values: [AbsoluteConfigKey: ConfigValue] = [:]
        for (setting, text) in flags {
            let content: ConfigContent =
                switch setting.kind {
                case .text: .string(text)
                case .number: Int(text).map { .int($0) } ?? .string(text)
                case .flag: .bool(text == "true")
                }
            values[AbsoluteConfigKey([setting.rawValue])] = ConfigValue(content, isSecret: setting.isSecret)
        }
        return values
    }

    private static func read(_ setting: Setting, _ reader: ConfigReader) async throws -> String? {
        let key = ConfigKey([setting.rawValue])
        return switch setting.kind {
        case .text: try await reader.fetchString(forKey: key, isSecret: setting.isSecret)
        case .number: try await reader.fetchInt(forKey: key).map { String($0) }
        case .flag: try await reader.fetchBool(forKey: key).map { String($0) }
        }
    }

    private static func fileProvider(_ path: String) async throws(FlockError) -> any ConfigProvider {
        do {
            let content = try JSONSerialization.jsonObject(with: Data(contentsOf: URL(fileURLWithPath: path)))
            guard let object = content as? [String: Any] else {
                throw FlockError(.invalidInput, "\(path): the file must hold one JSON object")
            }
            let known = Set(Setting.allCases.map(\.rawValue))
            if let unknown = object.keys.sorted().first(where: { !known.contains($0) }) {
                throw FlockError(
                    .invalidInput,
                    "\(path): unknown key \"\(unknown)\"; there are \(known.sorted().joined(separator: ", "))")
            }
            let place = InMemoryProvider(values: ["filePath": ConfigValue(.string(path), isSecret: false)])
            return try await FileProvider<JSONSnapshot>(config: ConfigReader(provider: place))
        } catch let error as FlockError {
            throw error
        } catch {
            let missing = !FileManager.default.fileExists(atPath: path)
            throw FlockError(
                .invalidInput, "\(path): \(missing ? "there is no such file" : "not readable as JSON: \(error)")",
                cause: error)
        }
    }

    /// A text; empty if it has no value.
    func text(_ setting: Setting) -> String { origins[setting]?.value ?? "" }
    /// A number; nil if it has no value.
    func number(_ setting: Setting) -> Int? { Int(text(setting)) }
    func flag(_ setting: Setting) -> Bool { text(setting) == "true" }
    /// A text, nil if it is empty or has no value.
    func optional(_ setting: Setting) -> String? { text(setting).isEmpty ? nil : text(setting) }

    /// The table of `launcher config`.
    func table(_ terminal: Terminal) -> [String] {
        let rows = Setting.allCases.map { setting -> (String, String, String) in
            let origin = origins[setting] ?? Origin(value: nil, source: "default")
            return (setting.flagName, shown(setting, origin.value), origin.source)
        }
        let wide = (rows.map(\.0.count).max() ?? 0, rows.map(\.1.count).max() ?? 0)
        return rows.map { name, value, source in
            terminal.styled(Text.padded(name, to: wide.0), .bold) + "  " + Text.padded(value, to: wide.1) + "  "
                + terminal.styled(source, source == "default" ? .dim : .cyan)
        }
    }

    /// A path of a secret is shown only if there is such a file: otherwise it may be the secret itself, put in the
    /// wrong place. What is in the file is never shown.
    private func shown(_ setting: Setting, _ value: String?) -> String {
        guard let value, !value.isEmpty else { return "-" }
        guard setting.isSecret else { return value }
        return FileManager.default.fileExists(atPath: value) ? "\(value) (***)" : "***"
    }
}

extension Setting {
    fileprivate var expectation: String {
        switch kind {
        case .text: "a text"
        case .number(let range): "a whole number from \(range.lowerBound) to \(range.upperBound)"
        case .flag: "true or false"
        }
    }

    fileprivate func check(_ value: String, from source: String) throws(FlockError) {
        if case .number(let range) = kind {
            guard let number = Int(value), range.contains(number) else {
                throw FlockError(.invalidInput, "\(source): \(value) is not \(expectation)")
            }
        }
    }
}

/// Remembers which provider answered last for each key.
private final class OriginReporter: AccessReporter {
    private let providers = Mutex<[String: Int]>([:])

    func report(_ event: AccessEvent) {
        // The providers are asked in order until one has a value or fails, so the last one is the source.
        providers.withLock {
            $0[event.metadata.key.components.joined(separator: ".")] = event.providerResults.count - 1
        }
    }

    func source(_ setting: Setting, _ path: String?) -> String {
        switch providers.withLock({ $0[setting.rawValue] }) {
        case 0: "flag --\(setting.flagName)"
        case 1: "environment \(setting.environmentName)"
        case 2: "file \(path ?? "") (\(setting.rawValue))"
        default: "default"
        }
    }
}
