// Flockwork · Apache-2.0 · see LICENSE

import Flockwork
import Foundation
import Testing

@testable import BreastCancer

@Suite struct BreastCancerTests {
    @Test("all 569 rows, normalised and scored in Swift, get scikit-learn's label and probability")
    func allRows() async throws {
        let data = try Dataset.bundled()
        let reference = try Reference.bundled()
        try #require(data.rows.count == 569 && reference.labels.count == 569)
        let normalized = try Normalization(path: SampleFile.normalization.path).apply(to: data.rows)
        let model = try await ModelSource.linear(SampleFile.model.path).load()
        let scores = try model.score(normalized).elements
        var worst = 0.0
        for row in 0..<569 {
            let verdict = Verdict(probability: scores[row])
            #expect(reference.agrees(with: verdict, row: row), "row \(row): \(verdict)")
            worst = max(worst, abs(Double(scores[row]) - reference.probabilities[row]))
        }
        #expect(worst <= 1e-6 && worst > 0, "the largest difference is \(worst)")
        let right = zip(data.diagnoses, scores).count { Verdict(probability: $1).label == $0 }
        #expect(right == 562, "scikit-learn's accuracy is 562 of 569, ours \(right)")
    }

    @Test("the reference tells a wrong label and a wrong probability")
    func disagreement() throws {
        let reference = try Reference.bundled()
        let right = Verdict(probability: Float(reference.probabilities[19]))
        #expect(reference.agrees(with: right, row: 19))
        #expect(!reference.agrees(with: Verdict(label: .malignant, probability: right.probability), row: 19))
        #expect(!reference.agrees(with: Verdict(probability: right.probability - 5e-6), row: 19))
        #expect(!reference.agrees(with: Verdict(label: right.label, probability: .nan), row: 19))
        #expect(!reference.agrees(with: right, row: 20))
    }

    private static let row = (1...30).map { "\($0).5" }.joined(separator: ",")

    private static func file(_ text: String) -> CSVFile { CSVFile(path: "rows.csv", text: text) }

    @Test("rows are read with LF, CRLF and no last line end", arguments: ["\n", "\r\n"])
    func lineEnds(end: String) throws {
        let lines = ["2,30,malignant,benign", "\(Self.row),0", "\(Self.row),1"]
        for text in [lines.joined(separator: end), lines.joined(separator: end) + end] {
            let data = try Dataset(Self.file(text))
            #expect(data.rows.count == 2 && data.rows[1][29] == 30.5 && data.diagnoses == [.malignant, .benign])
        }
    }

    @Test(
        "an unreadable row is named by file, line and column",
        arguments: [
            ("", "rows.csv: line 1: the file ends here"),
            ("x,30,malignant,benign\n", "rows.csv: line 1, column 1: \"x\" is not a whole number"),
            ("1,29,malignant,benign\nR,0\n", "rows.csv: line 1, column 2: \"29\" is not a whole number from 30 to 30"),
            ("1,30,malignant,malignant\nR,0\n", "rows.csv: line 1, column 4: \"malignant\" is no diagnosis, or"),
            ("2,30,malignant,benign\nR,0\n", "rows.csv: line 3: 1 rows; the first line promises 2"),
            ("1,30,malignant,benign\nR,0\nR,0\n", "rows.csv: line 3: 2 rows; the first line promises 1"),
            ("1,30,malignant,benign\n\n", "rows.csv: line 2, column 2: the line is empty; 31 are expected"),
            ("1,30,malignant,benign\nR\n", "rows.csv: line 2, column 31: 30 fields; 31 are expected"),
            ("1,30,malignant,benign\nR,0,0\n", "rows.csv: line 2, column 32: 32 fields; 31 are expected"),
            ("1,30,malignant,benign\nR,2\n", "rows.csv: line 2, column 31: \"2\" is not a whole number from 0 to 1"),
            ("1,30,malignant,benign\nabc,R29,0\n", "rows.csv: line 2, column 1: \"abc\" is not a number"),
            ("1,30,malignant,benign\n,R29,0\n", "rows.csv: line 2, column 1: the field is empty"),
            ("1,30,malignant,benign\n1,nan,R28,0\n", "rows.csv: line 2, column 2: \"nan\" is not a finite number"),
            ("1,30,malignant,benign\n1e39,R29,0\n", "rows.csv: line 2, column 1: \"1e39\" is not a finite number"),
        ])
    func unreadable(text: String, says: String) throws {
        let fields = Self.row.split(separator: ",")
        let text = text.replacingOccurrences(of: "R29", with: fields.prefix(29).joined(separator: ","))
            .replacingOccurrences(of: "R28", with: fields.prefix(28).joined(separator: ","))
            .replacingOccurrences(of: "R", with: Self.row)
        let error = try #require(throws: FlockError.self) { try Dataset(Self.file(text)) }
        #expect(error == .invalidInput && error.message.hasPrefix(says), "\(error.message)")
    }

    @Test("a missing file and a file that is not text are named")
    func noText() throws {
        let absent = try #require(throws: FlockError.self) { try Dataset(csv: "/nowhere/rows.csv") }
        #expect(absent == .invalidInput && absent.message == "/nowhere/rows.csv: there is no such file")
        let file = FileManager.default.temporaryDirectory.appending(path: "rows-\(UUID()).csv")
        try Data([0xFF, 0xFE, 0x0A]).write(to: file)
        defer { #expect(throws: Never.self) { try FileManager.default.removeItem(at: file) } }
        let binary = try #require(throws: FlockError.self) { try Dataset(csv: file.path) }
        #expect(binary.message == "\(file.path): not UTF-8 text")
    }

    @Test("rows of another width are not normalised")
    func width() throws {
        let normalization = Normalization(mean: [1, 2], scale: [2, 4])
        #expect(try normalization.apply(to: Rows([3, 10], width: 2)).elements == [1, 2])
        #expect(throws: FlockError(.invalidInput, "")) { try normalization.apply(to: Rows([3], width: 1)) }
    }
}
