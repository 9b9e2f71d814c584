// Flockwork · Apache-2.0 · see LICENSE

// Reading the version out of a model file, which decides whether a library may load it.

import FlockWire
import Testing

@testable import FlockModels

@Suite struct XGBoostVersionTests {
    private func version(_ bytes: [UInt8]) throws -> XGBoostVersion {
        try bytes.withUnsafeBytes { try XGBoostVersion(ofModel: $0) }
    }

    @Test(
        "the version of the outermost object is read, wherever it stands",
        arguments: [
            #"{"learner":{},"version":[3,1,2]}"#, #"{"version":[3,1,2],"learner":{"version":[9,9,9]}}"#,
            #"{"a":"version","b":["version",":"],"version" : [ 3 , 1,2 ] }"#, "\n { \"version\":\n[3,\t1,2]}",
            #"{"a\"version":[9,9,9],"\\":{"version":[9]},"version":[3,1,2],"z":"}"}"#,
        ])
    func json(text: String) throws {
        #expect(try version(Array(text.utf8)).description == "3.1.2")
    }

    @Test(
        "JSON without one whole version is refused",
        arguments: [
            (#"{"learner":{"version":[3,1,2]}}"#, "does not say which XGBoost"),
            (#"{"version":"3.1.2"}"#, "is not three numbers"), (#"{"version":[3,1]}"#, "is not three numbers"),
            (#"{"version":[3,1,-2]}"#, "is not three numbers"), (#"{"version":[3,1,2.5]}"#, "is not three numbers"),
            (#"{"version":[3,1,2],"version":[1,0,0]}"#, "two versions"), (#"{"version":[3,1,2]"#, "not a whole JSON"),
            (#"{"version":[3,1,"#, "not a whole JSON"), (#"{"version"#, "not a whole JSON"), ("{", "not a whole JSON"),
            (#"{"a\"#, "not a whole JSON"), ("binf", "neither JSON nor UBJSON"), ("", "neither JSON nor UBJSON"),
        ])
    func badJSON(text: String, says: String) throws {
        let error = try #require(throws: FlockError.self) { try version(Array(text.utf8)) }
        #expect(error == .modelLoadFailed && error.message.contains(says), "\(error.message)")
    }

    private func key(_ name: String) -> [UInt8] {
        [UInt8(ascii: "L"), 0, 0, 0, 0, 0, 0, 0, UInt8(name.utf8.count)] + Array(name.utf8)
    }

    private func bytes(_ text: String) -> [UInt8] { Array(text.utf8) }

    @Test("UBJSON is stepped over by its types, and lists of integers are read in every form")
    func ubjson() throws {
        let lists: [[UInt8]] = [
            bytes("[#L") + [0, 0, 0, 0, 0, 0, 0, 3] + bytes("i\u{3}i\u{1}i\u{2}"), bytes("[i\u{3}U\u{1}I\u{0}\u{2}]"),
            bytes("[$i#i\u{3}\u{3}\u{1}\u{2}"), bytes("[$l#U\u{3}") + [0, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0, 2],
        ]
        let value = bytes("{") + key("version") + bytes("[i\u{9}]") + bytes("}")
        let others: [[UInt8]] = [
            [], key("a") + value, key("a") + bytes("SL") + [0, 0, 0, 0, 0, 0, 0, 2] + bytes("]}"),
            key("a") + bytes("[$d#i\u{2}") + [1, 2, 3, 4, 5, 6, 7, 8], key("a") + bytes("[[Z]TFNC}]"),
            key("a") + bytes("{#i\u{1}") + key("b") + bytes("D12345678"),
        ]
        for list in lists {
            for other in others {
                let model = bytes("{") + other + key("version") + list + bytes("}")
                #expect(try version(model).description == "3.1.2")
            }
        }
    }

    @Test("UBJSON that is cut anywhere, or whose counts lie, is refused and ends")
    func badUBJSON() throws {
        let model =
            bytes("{") + key("a") + bytes("[$d#i\u{2}") + [1, 2, 3, 4, 5, 6, 7, 8] + key("version")
            + bytes("[#L") + [0, 0, 0, 0, 0, 0, 0, 3] + bytes("i\u{3}i\u{1}i\u{2}}")
        #expect(try version(model).major == 3)
        for count in 2..<model.count {
            #expect(throws: FlockError(.modelLoadFailed, "")) { try version(Array(model.prefix(count))) }
        }
        let huge: [UInt8] = [0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]
        for bad: [UInt8] in [
            key("a") + bytes("[$d#L") + huge, key("a") + bytes("[#L") + huge + bytes("i"),
            key("a") + bytes("[$Z#L") + huge, key("a") + bytes("{#L") + huge, key("a") + bytes("SL") + huge,
            key("a") + bytes("Si") + [0xFF], key("a") + bytes("?"), key("a") + bytes("[$d"),
            key("a") + bytes(String(repeating: "[", count: 100_000)), bytes("L") + huge,
        ] {
            #expect(throws: FlockError(.modelLoadFailed, "")) { try version(bytes("{") + bad + bytes("}")) }
        }
    }

    @Test("a library reads models of its own version and older ones, and no newer one")
    func guardedPairs() throws {
        func check(_ library: [Int], _ model: [Int]) throws {
            try XGBoostVersion(major: library[0], minor: library[1], patch: library[2])
                .checkReads(.init(major: model[0], minor: model[1], patch: model[2]), library: "/lib/x.so")
        }
        for older in [[3, 2, 0], [3, 1, 9], [2, 9, 9], [1, 0, 0]] { try check([3, 2, 0], older) }
        for newer in [[3, 2, 1], [3, 3, 0], [4, 0, 0]] {
            let error = try #require(throws: FlockError.self) { try check([3, 2, 0], newer) }
            let name = newer.map { "\($0)" }.joined(separator: ".")
            #expect(
                error == .modelLoadFailed && error.message.contains("saved by XGBoost \(name), and /lib/x.so is 3.2.0"))
        }
    }

    @Test("the library's reason is shown without time, place and stack")
    func reason() {
        let text =
            "[21:34:51] /src/data/data.cc:1161: Check failed: valid: it has `inf`\nStack trace:\n  [bt] (0) 0x1\n"
        #expect(XGBoostLibrary.reason(in: text) == "Check failed: valid: it has `inf`")
        #expect(XGBoostLibrary.reason(in: "[x] no place") == "[x] no place")
        #expect(XGBoostLibrary.reason(in: "") == "")
    }
}
