// Flockwork · Apache-2.0 · see LICENSE

// The second snippet of README.md: a client in another process, many requests at once, their outcomes as they come.

import Flockwork

/// Posts messages to the node at `address` and prints what became of each. It needs a node that runs `spam` there.
func post(_ messages: [Message], to spam: Pipeline<Message, String>, at address: String) async throws {
    let client = try await Client.connect(to: address)
    let inbox = try await client.inbox(of: spam)
    var left = try await inbox.post(messages).count
    for await (ticket, outcome) in inbox.outbox() {
        print(ticket, outcome)
        left -= 1
        if left == 0 { break }
    }
    await inbox.close()
    await client.close()
}
