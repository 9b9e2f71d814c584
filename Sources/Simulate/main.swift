// Flockwork · Apache-2.0 · see LICENSE

// `make sim`: many seeds on all cores, each a cluster of its own in one thread. The last line is one JSON object.

internal import FlockTestKit
internal import Glibc

let options = try SimulateOptions(CommandLine.arguments.dropFirst())
exit(await SimulateCommand(options).run())
