// Flockwork · Apache-2.0 · see LICENSE

// The first SIGTERM or SIGINT asks for an orderly end, the second one ends at once.

import Dispatch
import Foundation

/// Turns signals into one value to wait for.
final class Signals: Sendable {
    /// Set by the first signal, to its number.
    let first = OneShot<Int32>()
    // Only kept alive, never touched after `init`; the type is not marked Sendable.
    private nonisolated(unsafe) let sources: [any DispatchSourceSignal]

    /// Handles SIGTERM and SIGINT from now on. `onSecond` runs before the process exits with 128 + signal.
    init(onSecond: @escaping @Sendable () -> Void = {}) {
        let first = first
        sources = [SIGTERM, SIGINT].map { number in
            signal(number, SIG_IGN)
            let source = DispatchSource.makeSignalSource(signal: number, queue: .global())
            source.setEventHandler {
                guard first.peek != nil else { return first.set(number) }
                onSecond()
                _exit(128 + number)
            }
            source.resume()
            return source
        }
    }

    /// Treats the end of standard input as a SIGTERM: whoever started this process is gone.
    func followParent() {
        let thread = Thread { [first] in
            var byte: UInt8 = 0
            while true {
                let count = read(0, &byte, 1)
                if count == 0 || (count < 0 && errno != EINTR) { break }
            }
            first.set(SIGTERM)
        }
        thread.name = "parent"
        thread.start()
    }
}
