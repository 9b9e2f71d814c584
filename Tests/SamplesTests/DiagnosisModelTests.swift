// Flockwork · Apache-2.0 · see LICENSE

import BreastCancer
import Flockwork
import Foundation
import Testing

@Suite struct DiagnosisModelTests {
    /// `make test-libs` asks for all models; elsewhere those run whose library is here.
    private static let wantsAll = ProcessInfo.processInfo.environment["FLOCKWORK_CASES_ALL"] == "1"

    @Test(
        "all 569 rows get the label and probability of the library that trained the model",
        arguments: DiagnosisModel.allCases)
    func allRows(model: DiagnosisModel) async throws {
        let data = try Dataset.bundled()
        let reference = try Reference.bundled(for: model)
        try #require(data.rows.count == 569 && reference.labels.count == 569)
        let loaded: any Model
        do {
            loaded = try await model.source.load()
        } catch let error as FlockError where error.message.contains("is not installed") && !Self.wantsAll {
            print("*** DiagnosisModelTests: the model \(model) is NOT TESTED: \(error)")
            return
        }
        let rows = try Normalization(path: SampleFile.normalization.path).apply(to: data.rows)
        let scores = try loaded.score(rows).elements
        let width = loaded.outputWidth
        #expect(width == (model == .onnx ? 2 : 1))
        var worst = 0.0
        for row in 0..<569 {
            let verdict = Verdict(probability: scores[(row + 1) * width - 1])
            #expect(reference.agrees(with: verdict, row: row), "row \(row): \(verdict)")
            worst = max(worst, abs(Double(verdict.probability) - reference.probabilities[row]))
        }
        print("\(model): the largest difference is \(worst)")
        let right = zip(data.diagnoses, reference.labels).count { $0 == $1 }
        #expect(right >= 560, "the model itself is right in \(right) of 569")
    }
}
