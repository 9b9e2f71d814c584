// Flockwork · Apache-2.0 · see LICENSE

// A stream socket in the file system. Who may connect is what the file system says: the socket has mode 0600 from the
// moment it is there, so that only its owner (and root) gets in.

internal import FlockWire
internal import Glibc

/// A bound socket, and its name.
struct LocalSocket: Sendable {
    let path: String
    let descriptor: Int32

    /// Makes the socket, in place of one that a process left behind.
    init(listeningAt path: String) throws(FlockError) {
        self.path = path
        let address = try Self.address(path)
        try Self.removeLeftOver(path)
        let descriptor = try Self.make()
        // On Linux the mode of the open socket is that of its name: there is no moment in which others could connect.
        guard fchmod(descriptor, 0o600) == 0, Self.call(Glibc.bind, descriptor, address) == 0 else {
            let error = FlockError(
                .system, "cannot listen on \(path): \(Self.reason(errno))")
            Glibc.close(descriptor)
            throw error
        }
        self.descriptor = descriptor
    }

    func close() { Glibc.close(descriptor) }
    func unlink() { Glibc.unlink(path) }

    /// A connection to whoever listens there.
    static func connect(to path: String) throws(FlockError) -> Int32 {
        let address = try address(path)
        let descriptor = try make()
        guard call(Glibc.connect, descriptor, address) == 0 else {
            let code = errno
            Glibc.close(descriptor)
            throw FlockError(
                code == EACCES || code == EPERM ? .unauthenticated : .unavailable, "\(path): \(reason(code))")
        }
        return descriptor
    }

    /// A socket that nobody listens at any more is deleted; anything else that has the name stays.
    private static func removeLeftOver(_ path: String) throws(FlockError) {
        var status = stat()
        guard lstat(path, &status) == 0 else { return }
        guard status.st_mode & S_IFMT == S_IFSOCK else {
            throw FlockError(.system, "cannot listen on \(path): there is something else of that name")
        }
        do throws(FlockError) {
            Glibc.close(try connect(to: path))
        } catch {
            guard error.code == .unavailable else {
                throw FlockError(.system, "cannot listen on \(path): it belongs to another user")
            }
            Glibc.unlink(path)
            return
        }
        throw FlockError(.system, "cannot listen on \(path): another process listens there; give each node its own")
    }

    // `SOCK_STREAM` and `SOCK_CLOEXEC` of Linux: which module they are of depends on what else is built with this file.
    private static let stream: Int32 = 1
    private static let closeOnExec: Int32 = 0o2_000_000

    private static func make() throws(FlockError) -> Int32 {
        let descriptor = socket(AF_UNIX, stream | closeOnExec, 0)
        guard descriptor >= 0 else { throw FlockError(.system, "no local socket: \(reason(errno))") }
        return descriptor
    }

    private static func address(_ path: String) throws(FlockError) -> sockaddr_un {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let bytes = Array(path.utf8)
        let room = MemoryLayout.size(ofValue: address.sun_path)
        guard !bytes.isEmpty, bytes.count < room, !bytes.contains(0) else {
            throw FlockError(
                .invalidInput,
                "\(path): the path of a socket has 1 to \(room - 1) bytes, this one has \(bytes.count)")
        }
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
        return address
    }

    private static func call(
        _ body: (Int32, UnsafePointer<sockaddr>, socklen_t) -> Int32, _ descriptor: Int32, _ address: sockaddr_un
    ) -> Int32 {
        withUnsafePointer(to: address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                body(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
    }

    private static func reason(_ code: Int32) -> String { String(cString: strerror(code)) }
}
