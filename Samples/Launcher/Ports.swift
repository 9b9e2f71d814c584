// Flockwork · Apache-2.0 · see LICENSE

// A member list names the ports of all nodes before the first one starts, and a node that was killed is started again
// on its own.

import Flockwork
import Foundation

/// Free TCP ports of the loopback interface.
enum Ports {
    /// Below those that the system gives to outgoing connections and to who asks for any, so that a port stays free
    /// while its node is away.
    private static let range = 10_240..<32_768

    /// `count` different ports that nobody listens on now. All are held until the last one is found, so none is given
    /// twice; somebody else may still take one afterwards, and then the caller asks again.
    static func free(_ count: Int) throws(FlockError) -> [Int] {
        var sockets: [Int32] = []
        defer { for socket in sockets { close(socket) } }
        var ports: [Int] = []
        for _ in 0..<100 * count where ports.count < count {
            let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
            guard descriptor >= 0 else {
                throw FlockError(.system, "no socket: \(String(cString: strerror(errno)))")
            }
            sockets.append(descriptor)
            let port = Int.random(in: range)
            if hold(port, descriptor) { ports.append(port) }
        }
        guard ports.count == count else { throw FlockError(.system, "no free port on 127.0.0.1") }
        return ports
    }

    private static func hold(_ port: Int, _ descriptor: Int32) -> Bool {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = in_port_t(port).bigEndian
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        return withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
                bind(descriptor, address, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0
            }
        }
    }
}
