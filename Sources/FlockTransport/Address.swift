// Flockwork · Apache-2.0 · see LICENSE

// Host names to socket addresses. Numeric ones at once, others by uv's resolver threads.

internal import CLibuv
internal import FlockWire
internal import Glibc

/// An IPv4 or IPv6 address with its port.
struct SocketAddress {
    private var storage = sockaddr_storage()

    init?(numeric host: String, port: Int) {
        guard (0...65535).contains(port) else { return nil }
        let family = withUnsafeMutableBytes(of: &storage) { memory -> Int32 in
            let four = memory.baseAddress!.assumingMemoryBound(to: sockaddr_in.self)
            if uv_ip4_addr(host, Int32(port), four) == 0 { return AF_INET }
            let six = memory.baseAddress!.assumingMemoryBound(to: sockaddr_in6.self)
            return uv_ip6_addr(host, Int32(port), six) == 0 ? AF_INET6 : -1
        }
        if family < 0 { return nil }
    }

    init(copying address: UnsafePointer<sockaddr>, length: Int) {
        withUnsafeMutableBytes(of: &storage) { memory in
            memory.copyMemory(from: UnsafeRawBufferPointer(start: address, count: min(length, memory.count)))
        }
    }

    func withAddress<Result>(_ body: (UnsafePointer<sockaddr>) -> Result) -> Result {
        withUnsafeBytes(of: storage) { body($0.baseAddress!.assumingMemoryBound(to: sockaddr.self)) }
    }

    var isIPv4: Bool { storage.ss_family == sa_family_t(AF_INET) }

    var port: Int {
        withAddress { address in
            // The port lies at the same place in both kinds.
            Int(UInt16(bigEndian: UnsafeRawPointer(address).load(fromByteOffset: 2, as: UInt16.self)))
        }
    }

    var isLoopback: Bool {
        withUnsafeBytes(of: storage) { memory in
            if isIPv4 { return memory[4] == 127 }
            let six = memory[8..<24]
            let mapped = six.prefix(10).allSatisfy { $0 == 0 } && six[18] == 0xFF && six[19] == 0xFF && six[20] == 127
            return mapped || (six.dropLast().allSatisfy { $0 == 0 } && six.last == 1)
        }
    }

    /// `127.0.0.1:80` or `[::1]:80`.
    var text: String {
        var name = [CChar](repeating: 0, count: 64)
        let code = withAddress { uv_ip_name($0, &name, name.count) }
        let host =
            code == 0 ? String(decoding: name.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self) : "?"
        return isIPv4 ? "\(host):\(port)" : "[\(host)]:\(port)"
    }

    static func peer(of handle: UnsafeMutablePointer<uv_tcp_t>) -> SocketAddress {
        named(handle) { uv_tcp_getpeername($0, $1, $2) }
    }

    static func own(of handle: UnsafeMutablePointer<uv_tcp_t>) -> SocketAddress {
        named(handle) { uv_tcp_getsockname($0, $1, $2) }
    }

    private init() {}

    private static func named(
        _ handle: UnsafeMutablePointer<uv_tcp_t>,
        _ ask: (UnsafePointer<uv_tcp_t>, UnsafeMutablePointer<sockaddr>, UnsafeMutablePointer<Int32>) -> Int32
    ) -> SocketAddress {
        var address = SocketAddress()
        var length = Int32(MemoryLayout<sockaddr_storage>.size)
        _ = withUnsafeMutableBytes(of: &address.storage) { memory in
            ask(handle, memory.baseAddress!.assumingMemoryBound(to: sockaddr.self), &length)
        }
        return address
    }
}

/// A name look-up on a loop. Of the loop's thread.
final class AddressLookup: LoopResident {
    private let request = UnsafeMutablePointer<uv_getaddrinfo_t>.allocate(capacity: 1)
    private let loop: EventLoop
    private let host: String
    private let port: Int
    private var completion: ((Result<[SocketAddress], FlockError>) -> Void)?

    private init(
        _ host: String, port: Int, on loop: EventLoop,
        completion: @escaping (Result<[SocketAddress], FlockError>) -> Void
    ) {
        self.host = host
        self.port = port
        self.loop = loop
        self.completion = completion
    }

    deinit { request.deallocate() }

    /// `completion` is called on the loop, at once for a numeric host.
    static func start(
        _ host: String, port: Int, on loop: EventLoop,
        completion: @escaping (Result<[SocketAddress], FlockError>) -> Void
    ) {
        guard (0...65535).contains(port) else {
            completion(.failure(FlockError(.invalidInput, "\(host):\(port): a port is a number from 0 to 65535")))
            return
        }
        if let address = SocketAddress(numeric: host, port: port) {
            completion(.success([address]))
            return
        }
        AddressLookup(host, port: port, on: loop, completion: completion).start()
    }

    private func start() {
        var hints = addrinfo()
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        request.pointee.data = Unmanaged.passRetained(self).toOpaque()
        loop.residents[ObjectIdentifier(self)] = self
        let code = uv_getaddrinfo(
            loop.handles.loop, request,
            { request, status, list in
                let lookup = Unmanaged<AddressLookup>.fromOpaque(request!.pointee.data).takeRetainedValue()
                lookup.finish(status, list)
                uv_freeaddrinfo(list)
            }, host, String(port), &hints)
        if code != 0 {
            Unmanaged.passUnretained(self).release()
            finish(code, nil)
        }
    }

    private func finish(_ status: Int32, _ list: UnsafeMutablePointer<addrinfo>?) {
        loop.residents[ObjectIdentifier(self)] = nil
        var addresses: [SocketAddress] = []
        var next = list
        while let entry = next {
            if let address = entry.pointee.ai_addr {
                addresses.append(SocketAddress(copying: address, length: Int(entry.pointee.ai_addrlen)))
            }
            next = entry.pointee.ai_next
        }
        guard status == 0, !addresses.isEmpty else {
            completion.take()?(
                .failure(FlockError(.unavailable, "host \(host) cannot be resolved: \(uvText(status))")))
            return
        }
        completion.take()?(.success(addresses))
    }

    func loopStops() {
        // Its callback comes with UV_ECANCELED, or with the answer if a resolver thread is at it.
        uv_cancel(UnsafeMutableRawPointer(request).assumingMemoryBound(to: uv_req_t.self))
    }
}
