// Flockwork · Apache-2.0 · see LICENSE

internal import FlockWire
internal import Glibc

/// Ports for a member list, which names them before the nodes listen.
public enum FreePorts {
    /// Ports of 127.0.0.1 that nobody listens on now. Another process may take one before its node does.
    /// - Throws: `FlockError(.system)` when there is none.
    public static func find(_ count: Int) throws -> [Int] {
        var sockets: [Int32] = []
        defer { for socket in sockets { close(socket) } }
        return try (0..<count).map { _ in
            let socket = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
            sockets.append(socket)
            var address = sockaddr_in()
            address.sin_family = sa_family_t(AF_INET)
            address.sin_addr.s_addr = in_addr_t(0x7F00_0001).bigEndian
            var length = socklen_t(MemoryLayout<sockaddr_in>.size)
            let result = withUnsafeMutablePointer(to: &address) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { pointer in
                    bind(socket, pointer, length) == 0 ? getsockname(socket, pointer, &length) : -1
                }
            }
            guard result == 0 else { throw FlockError(.system, "no free port") }
            return Int(UInt16(bigEndian: address.sin_port))
        }
    }
}
