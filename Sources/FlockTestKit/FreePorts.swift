// Flockwork · Apache-2.0 · see LICENSE

internal import FlockWire
internal import Glibc
internal import Synchronization

/// Ports for a member list, which names them before the nodes listen, or for a node that is started again.
public enum FreePorts {
    /// Below those that the system gives to outgoing connections and to who asks for any, so that a port stays free
    /// while nobody listens on it.
    private static let range = 10_240..<32_768
    private static let given = Mutex<Set<Int>>([])

    /// Ports of 127.0.0.1 that nobody listens on now; none is given twice in this process.
    /// - Throws: `FlockError(.system)` when there is none.
    public static func find(_ count: Int) throws -> [Int] {
        var ports: [Int] = []
        for _ in 0..<100 * count where ports.count < count {
            let port = Int.random(in: range)
            guard given.withLock({ $0.insert(port).inserted }), isFree(port) else { continue }
            ports.append(port)
        }
        guard ports.count == count else { throw FlockError(.system, "no free port") }
        return ports
    }

    private static func isFree(_ port: Int) -> Bool {
        // A child that is made meanwhile must not keep it.
        let socket = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        guard socket >= 0 else { return false }
        defer { close(socket) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = in_port_t(port).bigEndian
        address.sin_addr.s_addr = in_addr_t(0x7F00_0001).bigEndian
        return withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { pointer in
                bind(socket, pointer, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0
            }
        }
    }
}
