// Flockwork · Apache-2.0 · see LICENSE

// Making the standard library's container for the fields of a value costs as much as writing eight numbers into it: an
// allocation, and the look-up of a generic class by the type of the keys. Values that are coded one after another have
// the same keys, so the container of the first one serves the next as well.

/// A `KeyedEncodingContainer` or `KeyedDecodingContainer` of a whole value, for the next one.
class KeptContainer {
    private let keys: UnsafeRawPointer
    /// The container.
    fileprivate let memory: UnsafeMutableRawPointer
    // Both of the library's containers are one reference to a box. Should that change, nothing is kept.
    private let isReference: Bool

    fileprivate init<Container>(_ container: Container, _ keys: any Any.Type) {
        self.keys = unsafeBitCast(keys, to: UnsafeRawPointer.self)
        let typed = UnsafeMutablePointer<Container>.allocate(capacity: 1)
        typed.initialize(to: container)
        memory = UnsafeMutableRawPointer(typed)
        isReference = MemoryLayout<Container>.size == MemoryLayout<AnyObject>.size
    }

    static func of<Container>(_ container: Container, keys: any Any.Type) -> KeptContainer {
        TypedContainer<Container>(container, keys)
    }

    /// This container, if it is one of such keys. The same keys must always come with the same type.
    @inline(__always)
    func typed<Container>(_ type: Container.Type, keys: any Any.Type) -> TypedContainer<Container>? {
        guard self.keys == unsafeBitCast(keys, to: UnsafeRawPointer.self) else { return nil }
        return unsafeDowncast(self, to: TypedContainer<Container>.self)
    }

    /// Nobody else has this container. One that the value's type has put aside is the type's alone: used later on, it
    /// must not reach into another value.
    @inline(__always)
    var isUnshared: Bool {
        // As an optional: of a plain `AnyObject`, unoptimised code of Swift 6.3 tests a copy, which is never unique.
        // Extended, since an object that is let go next may be freed, in release, once `memory` was read from it.
        withExtendedLifetime(self) {
            isReference && isKnownUniquelyReferenced(&memory.assumingMemoryBound(to: AnyObject?.self).pointee)
        }
    }
}

final class TypedContainer<Container>: KeptContainer {
    private var container: UnsafeMutablePointer<Container> { memory.assumingMemoryBound(to: Container.self) }

    deinit {
        container.deinitialize(count: 1)
        container.deallocate()
    }

    // Not inlined: here the container's type comes with the object; elsewhere it would be looked up by its keys.
    @inline(never)
    func get() -> Container { container.pointee }
}
