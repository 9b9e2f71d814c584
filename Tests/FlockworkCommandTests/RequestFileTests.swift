// Flockwork · Apache-2.0 · see LICENSE

import Flockwork
import Testing

@testable import FlockworkCommand

@Suite("request files")
struct RequestFileTests {
    @Test("a heading is left out, and lines keep their numbers")
    func heading() throws {
        let file = RequestFile(name: "x.csv", text: "a,b\r\n1, 2.5\r\n-3e2,\t4\n")
        let rows = file.rows(width: 2)
        #expect(rows.map(\.number) == [2, 3])
        #expect(try rows.map { try $0.item.get() } == [[1, 2.5], [-300, 4]])
        #expect(try file.texts.map { try $0.item.get() } == ["a,b", "1, 2.5", "-3e2,\t4"])
    }

    @Test("a line that is no row says which column, or how many numbers it has")
    func wrong() {
        let rows = RequestFile(name: "x.csv", text: "1,2\n1,x\n1,2,3\n\n").rows(width: 2)
        #expect(rows.count == 4)
        let messages = rows.map { row in
            if case .failure(let error) = row.item { error.message } else { "" }
        }
        #expect(messages[0] == "")
        #expect(messages[1] == "column 2 is no number: \"x\"")
        #expect(messages[2] == "3 numbers; the pipeline takes rows of 2")
        #expect(messages[3].contains("column 1"))
    }

    @Test("results come in the order of the lines, however they are answered, with no more than the window open")
    func order() async throws {
        let lines = RequestFile(name: "x", text: (0..<500).map { "\($0)\n" }.joined()).texts
        let open = OpenCount()
        var numbers: [Int] = []
        let asked = Asked(lines, window: 16) { text in
            await open.enter()
            if text.hasSuffix("7") { await Task.yield() }
            await open.leave()
            if text == "99" { throw FlockError(.poison, "bad") }
            return text
        }
        for try await (number, result) in asked {
            numbers.append(number)
            switch result {
            case .success(let text): #expect(text == "\(number - 1)")
            case .failure(let error): #expect(number == 100 && error.code == .poison)
            }
        }
        #expect(numbers == Array(1...500))
        #expect(await open.most <= 16)
    }
}

private actor OpenCount {
    private var count = 0
    var most = 0
    func enter() {
        count += 1
        most = max(most, count)
    }
    func leave() { count -= 1 }
}
