// Flockwork · Apache-2.0 · see LICENSE

internal import FlockWire

enum HostPort {
    /// "host:port", "[v6]:port".
    static func parse(_ text: String) throws(FlockError) -> (host: String, port: Int) {
        let wrong = FlockError(.invalidInput, "\"\(text)\" is no address: write host:port, e.g. 127.0.0.1:7400.")
        guard let colon = text.lastIndex(of: ":"), let port = Int(text[text.index(after: colon)...]),
            (1...65_535).contains(port)
        else { throw wrong }
        var host = text[..<colon]
        if host.hasPrefix("["), host.hasSuffix("]") { host = host.dropFirst().dropLast() }
        guard !host.isEmpty else { throw wrong }
        return (String(host), port)
    }
}
