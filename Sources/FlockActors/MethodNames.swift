// Flockwork · Apache-2.0 · see LICENSE

// The runtime looks a distributed method up by its mangled name alone, never asks whose method it is, and crashes on
// names that were tampered with (security.md §1). So names from the wire never reach it: this file reads the names that
// this executable itself has, and everything else deals in indices of that list.

import CFlockRuntime
import Distributed

/// One distributed method of this executable.
struct MethodName: Sendable {
    /// The mangled name of its distributed thunk: what `RemoteCallTarget.identifier` says.
    let identifier: String
    /// As written, with labels: `process(_:)`. A computed property counts as a method without arguments.
    let name: String
    /// Arguments that a call must carry.
    let argumentCount: Int

    init(identifier: String, name: String) {
        self.identifier = identifier
        self.name = name
        argumentCount = name.utf8.count { $0 == UInt8(ascii: ":") }
    }

    /// The name without labels.
    var baseName: Substring { name.prefix { $0 != "(" } }
}

/// The distributed methods of this executable that may be called from remote, sorted; a method's number is its index.
struct MethodNames: Sendable {
    /// The ones of the `swift5_accessible_functions` section.
    static let ofThisProgram = MethodNames(
        identifiers: (0..<flock_accessible_function_count()).compactMap { index in
            flock_accessible_function_name(index).map { String(cString: $0) }
        })

    let all: [MethodName]
    private let numbers: [String: UInt32]

    /// `identifiers` are trusted: they come from this executable (or from a test).
    init(identifiers: [String]) {
        all = Set(identifiers).filter(Self.isCallable).sorted().map { identifier in
            // The description is "Module.Actor.method(label:)"; it is made by the demangler, from a trusted name.
            let text = RemoteCallTarget(identifier).description
            let path = text.prefix { $0 != "(" }
            let start = path.lastIndex(of: ".").map { text.index(after: $0) } ?? text.startIndex
            return MethodName(identifier: identifier, name: String(text[start...]))
        }
        numbers = Dictionary(uniqueKeysWithValues: all.enumerated().map { ($1.identifier, UInt32($0)) })
    }

    subscript(number: UInt32) -> MethodName { all[Int(number)] }

    /// The number of the method with exactly this identifier.
    func number(of identifier: String) -> UInt32? { numbers[identifier] }

    /// The numbers of the methods that `type` declares itself.
    ///
    /// Empty for generic and for private types: their mangled names differ from the ones that their methods carry.
    func numbers(of type: any DistributedActor.Type) -> [UInt32] {
        _mangledTypeName(type).map { numbers(withTypeName: $0) } ?? []
    }

    func numbers(withTypeName typeName: String) -> [UInt32] {
        let prefix = "$s" + typeName
        return all.indices.filter { index in
            let identifier = all[index].identifier
            return identifier.hasPrefix(prefix) && !Self.isNested(identifier.utf8.dropFirst(prefix.utf8.count))
        }.map { UInt32($0) }
    }

    /// A distributed thunk ("FTE") without generic parameters of its own ("l" ends a generic signature).
    private static func isCallable(_ identifier: String) -> Bool {
        identifier.hasPrefix("$s") && identifier.hasSuffix("FTE") && !identifier.hasSuffix("lFTE")
    }

    /// What follows a type's name belongs to a type nested in it: an identifier, then a nominal type's operator.
    private static func isNested(_ rest: Substring.UTF8View) -> Bool {
        var rest = rest
        guard skipIdentifier(&rest) else { return true }
        var discriminator = rest
        if skipIdentifier(&discriminator), discriminator.starts(with: "LL".utf8) { rest = discriminator.dropFirst(2) }
        guard let next = rest.first else { return true }
        return "CVOPE".utf8.contains(next) && !isExtensionOfOwner(rest)
    }

    /// "<module>E": the method stands in an extension that another module declares; the owner is still the type.
    private static func isExtensionOfOwner(_ rest: Substring.UTF8View) -> Bool {
        guard rest.first == UInt8(ascii: "E") else { return false }
        return !isNested(rest.dropFirst())
    }

    /// An identifier of the mangling: "3foo", or with word substitutions "03foobA0C3Bar".
    private static func skipIdentifier(_ text: inout Substring.UTF8View) -> Bool {
        guard let first = text.first, isDigit(first) else { return false }
        var substitutes = false
        var isPunycode = false
        if first == UInt8(ascii: "0") {
            text = text.dropFirst()
            // "00" starts Punycode: the length follows at once, then perhaps an underscore that it does not count.
            isPunycode = text.first == UInt8(ascii: "0")
            substitutes = !isPunycode
            if isPunycode { text = text.dropFirst() }
        }
        repeat {
            while substitutes, let letter = text.first, isLetter(letter) {
                if letter < UInt8(ascii: "a") { substitutes = false }
                text = text.dropFirst()
            }
            if text.first == UInt8(ascii: "0") {
                text = text.dropFirst()
                return true
            }
            let digits = text.prefix(while: isDigit)
            guard let length = Int(String(Substring(digits))), length > 0 else { return false }
            text = text.dropFirst(digits.count)
            if isPunycode, text.first == UInt8(ascii: "_") { text = text.dropFirst() }
            guard text.count >= length else { return false }
            text = text.dropFirst(length)
        } while substitutes
        return true
    }

    private static func isDigit(_ byte: UInt8) -> Bool { byte >= UInt8(ascii: "0") && byte <= UInt8(ascii: "9") }

    private static func isLetter(_ byte: UInt8) -> Bool {
        byte | 0x20 >= UInt8(ascii: "a") && byte | 0x20 <= UInt8(ascii: "z")
    }
}
