// Flockwork · Apache-2.0 · see LICENSE

// Linear and logistic regression, the smallest useful model. The arithmetic is in LinearKernel.swift and the file
// format in LinearModelFile.swift.

public import FlockWire

/// `link(weights × row + bias)` for each row.
///
/// A row's scores do not depend on the rows beside it: every batch size gives the same bits. A NaN in a row gives NaN
/// for that row alone.
public struct LinearModel: Model {
    /// What is applied to the weighted sums.
    public enum Link: String, Codable, Sendable, CaseIterable {
        /// Nothing: a regression.
        case identity
        /// `1 / (1 + e^-x)` on each output: a probability.
        case logistic
        /// `e^x / Σ e^x` over the outputs: a probability of each class.
        case softmax
    }

    public let inputWidth: Int
    public let outputWidth: Int
    public let link: Link
    private let kernel: LinearKernel

    /// - Parameters:
    ///   - weights: `outputWidth × inputWidth`, row-major: all weights of the first output come first.
    ///   - bias: one for each output.
    ///
    /// Throws `modelLoadFailed` for counts that do not fit and for weights that are not finite.
    public init(weights: [Float], bias: [Float], inputWidth: Int, link: Link = .identity) throws(FlockError) {
        let outputWidth = bias.count
        guard inputWidth > 0, outputWidth > 0 else {
            throw FlockError(.modelLoadFailed, "a linear model needs at least one input and one output")
        }
        let (expected, overflow) = inputWidth.multipliedReportingOverflow(by: outputWidth)
        guard !overflow, weights.count == expected else {
            throw FlockError(
                .modelLoadFailed,
                "\(weights.count) weights; \(outputWidth) outputs of \(inputWidth) inputs need \(expected)")
        }
        if let bad = weights.firstIndex(where: { !$0.isFinite }) {
            throw FlockError(
                .modelLoadFailed,
                "weight \(bad % inputWidth) of output \(bad / inputWidth) is \(weights[bad]), not a finite number")
        }
        if let bad = bias.firstIndex(where: { !$0.isFinite }) {
            throw FlockError(.modelLoadFailed, "bias \(bad) is \(bias[bad]), not a finite number")
        }
        self.inputWidth = inputWidth
        self.outputWidth = outputWidth
        self.link = link
        kernel = LinearKernel(weights: weights, bias: bias, inputWidth: inputWidth)
    }

    /// Throws `invalidInput` for rows of another width.
    public func score(_ rows: Rows<Float>, into scores: UnsafeMutableBufferPointer<Float>) throws {
        try checkWidth(of: rows)
        precondition(scores.count >= rows.count * outputWidth, "room for \(scores.count) scores of \(rows.count) rows")
        guard rows.count > 0, let target = scores.baseAddress else { return }
        rows.withElements { elements in
            guard let source = elements.baseAddress else { return }
            kernel.score(source, rows: rows.count, into: target)
        }
        switch link {
        case .identity: break
        case .logistic: applyLogistic(target, count: rows.count * outputWidth)
        case .softmax: applySoftmax(target, rows: rows.count, width: outputWidth)
        }
    }
}
