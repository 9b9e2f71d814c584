// Flockwork · Apache-2.0 · see LICENSE

// A member list names the ports of all nodes before the first one starts, so the demo asks the system for free ones.

import Flockwork
import Foundation

/// Free TCP ports of the loopback interface.
enum Ports {
    /// `count` different ports that nobody listens on now. All are held until the last one is found, so none is given
    /// twice; somebody else may still take one afterwards, and then the caller asks again.
    static func free(_ count: Int) throws(FlockError) -> [Int] {
        var sockets: [Int32] = []
        defer { for socket in sockets { close(socket) } }
        var ports: [Int] = []
        for _ in 0..<count {
            let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
            guard descriptor >= 0 else { throw failure("no socket") }
            sockets.append(descriptor)
            var address = sockaddr_in()
            address.sin_family = sa_family_t(AF_INET)
            address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
            var size = socklen_t(MemoryLayout<sockaddr_in>.size)
            let status = withUnsafeMutablePointer(to: &address) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
                    bind(descriptor, address, size) == 0 ? getsockname(descriptor, address, &size) : -1
                }
            }
            guard status == 0 else { throw failure("no free port on 127.0.0.1") }
            ports.append(Int(UInt16(bigEndian: address.sin_port)))
        }
        return ports
    }

    private static func failure(_ what: String) -> FlockError {
        FlockError(.system, "\(what): \(String(cString: strerror(errno)))")
    }
}
