// Flockwork · Apache-2.0 · see LICENSE

public import FlockWire

/// A node as the cluster's configuration names it.
public struct MemberSpec: Sendable, Hashable, CustomStringConvertible {
    /// The node's stable name.
    public let id: NodeID
    /// Host name or address, as every member can resolve it.
    public let host: String
    /// TCP port.
    public let port: Int
    /// Share of the partitions relative to other members, 1 to 64.
    public let weight: Int

    /// A member, checked. Throws `invalidInput` that names what is wrong.
    public init(id: NodeID, host: String, port: Int, weight: Int = 1) throws(FlockError) {
        let name = id.rawValue
        let isPlain = name.utf8.allSatisfy { $0 > 0x20 && $0 != 0x7F && $0 != 0x2C && $0 != 0x3D }
        guard !name.isEmpty, name.utf8.count <= 255, isPlain else {
            throw FlockError(.invalidInput, "node id \"\(name)\": 1 to 255 bytes without space, comma or equals sign")
        }
        guard !host.isEmpty, host.utf8.allSatisfy({ $0 > 0x20 && $0 != 0x7F && $0 != 0x2C }) else {
            throw FlockError(.invalidInput, "member \(name): host \"\(host)\" is no host name or address")
        }
        guard (1...65_535).contains(port) else {
            throw FlockError(.invalidInput, "member \(name): port \(port) is not between 1 and 65535")
        }
        guard (1...64).contains(weight) else {
            throw FlockError(.invalidInput, "member \(name): weight \(weight) is not between 1 and 64")
        }
        self.id = id
        self.host = host
        self.port = port
        self.weight = weight
    }

    /// Reads `id=host:port`; an IPv6 address stands in brackets. Throws `invalidInput`.
    public init(parsing text: String) throws(FlockError) {
        func wrong(_ why: String) -> FlockError {
            FlockError(.invalidInput, "member \"\(text)\": \(why); it should look like node-1=host:7400")
        }
        guard let equals = text.firstIndex(of: "=") else { throw wrong("no \"=\"") }
        let address = text[text.index(after: equals)...]
        guard let colon = address.lastIndex(of: ":") else { throw wrong("no port") }
        guard let port = Int(address[address.index(after: colon)...]) else { throw wrong("the port is no number") }
        var host = address[..<colon]
        if host.hasPrefix("[") && host.hasSuffix("]") {
            host = host.dropFirst().dropLast()
        } else if host.contains(":") {
            throw wrong("an IPv6 address needs brackets")
        }
        try self.init(id: NodeID(String(text[..<equals])), host: String(host), port: port)
    }

    /// Reads `id=host:port,id=host:port,…`, spaces around members allowed. Throws `invalidInput`, also for an id or an
    /// address given twice.
    public static func list(parsing text: String) throws(FlockError) -> [MemberSpec] {
        var members: [MemberSpec] = []
        for part in text.split(separator: ",", omittingEmptySubsequences: false) {
            var trimmed = part
            while trimmed.first == " " { trimmed.removeFirst() }
            while trimmed.last == " " { trimmed.removeLast() }
            members.append(try MemberSpec(parsing: String(trimmed)))
        }
        return try sorted(members)
    }

    /// The members by id. Throws `invalidInput` when an id or an address is there twice.
    static func sorted(_ members: [MemberSpec]) throws(FlockError) -> [MemberSpec] {
        let sorted = members.sorted { $0.id < $1.id }
        for (left, right) in zip(sorted, sorted.dropFirst()) where left.id == right.id {
            throw FlockError(.invalidInput, "member \(left.id) is listed twice")
        }
        let byAddress = members.sorted { ($0.host, $0.port) < ($1.host, $1.port) }
        for (left, right) in zip(byAddress, byAddress.dropFirst()) where left.host == right.host {
            guard left.port != right.port else {
                throw FlockError(.invalidInput, "members \(left.id) and \(right.id) have the same address")
            }
        }
        return sorted
    }

    /// `id=host:port`.
    public var description: String {
        host.contains(":") ? "\(id)=[\(host)]:\(port)" : "\(id)=\(host):\(port)"
    }
}
