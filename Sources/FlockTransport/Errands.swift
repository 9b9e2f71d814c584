// Flockwork · Apache-2.0 · see LICENSE

// Work that a thread comes upon while it has something that others may want (a borrowed loop), and does itself once it
// has given that back, instead of waking another thread for it.

internal import CFlockRuntime

/// What the calling thread has taken on to do in a moment.
package enum Errands {
    private typealias List = [() -> Void]

    /// Runs `body`, then on this thread what was left within it. Not nested: within another one it only runs `body`.
    ///
    /// The caller must hold no lock that any of it could want; what is left may run jobs of tasks.
    /// - Returns: whether anything was left.
    package static func run(_ body: () -> Void) -> Bool {
        guard !isOpen else {
            body()
            return false
        }
        var list: List = []
        withUnsafeMutablePointer(to: &list) { list in
            flock_set_errands(list)
            body()
            flock_set_errands(nil)
        }
        for errand in list { errand() }
        return !list.isEmpty
    }

    /// This thread takes errands.
    package static var isOpen: Bool { flock_errands() != nil }

    /// Leaves `errand` for this thread. Only where `isOpen`.
    package static func leave(_ errand: @escaping () -> Void) {
        guard let list = flock_errands() else { preconditionFailure("a thread that takes no errands") }
        list.assumingMemoryBound(to: List.self).pointee.append(errand)
    }
}
