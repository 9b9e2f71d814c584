// Flockwork · Apache-2.0 · see LICENSE

// Work that a thread comes upon while it has something that others may want (a borrowed loop), and does itself once it
// has given that back, instead of waking another thread for it.

internal import CFlockRuntime

/// Something that an errand has borrowed and goes on holding, so that its thread can itself take what comes there.
package protocol Lookout {
    /// Does what has come, without waiting for more. False: nothing will come here, `end` it.
    func look() -> Bool
    /// Gives it back. Once.
    func end()
}

/// What the calling thread has taken on to do in a moment.
package enum Errands {
    /// Run with whether its thread will look for what comes of it.
    package typealias Errand = (_ keeps: Bool) -> (any Lookout)?

    package enum Outcome {
        /// Nothing was left.
        case nothing
        case done
        /// The caller looks, for as long as it wants to, and ends it.
        case kept(any Lookout)
    }

    /// Runs `body`, then on this thread what was left within it. Not nested: within another one it only runs `body`.
    ///
    /// The caller must hold no lock that any of it could want; what is left may run jobs of tasks. One who `looks` is
    /// given what the first errand that can has kept for that.
    package static func run(looks: Bool = false, _ body: () -> Void) -> Outcome {
        guard !isOpen else {
            body()
            return .nothing
        }
        var list: [Errand] = []
        withUnsafeMutablePointer(to: &list) { list in
            flock_set_errands(list)
            body()
            flock_set_errands(nil)
        }
        var outcome = list.isEmpty ? Outcome.nothing : .done
        for errand in list {
            if case .kept = outcome {
                _ = errand(false)
            } else if let lookout = errand(looks) {
                outcome = .kept(lookout)
            }
        }
        return outcome
    }

    /// This thread takes errands.
    package static var isOpen: Bool { flock_errands() != nil }

    /// Leaves `errand` for this thread. Only where `isOpen`.
    package static func leave(_ errand: @escaping Errand) {
        guard let list = flock_errands() else { preconditionFailure("a thread that takes no errands") }
        list.assumingMemoryBound(to: [Errand].self).pointee.append(errand)
    }
}
