// Flockwork · Apache-2.0 · see LICENSE

// Who takes work, and how much more. Local hosts come first since their hand-over costs no copy; within a group the
// less loaded of two drawn at random gets the run, which keeps the load even without looking at all of them.

internal import FlockWire

/// The stage hosts of a dispatcher and their credits.
struct HostTable: Sendable {
    struct Host: Sendable {
        let id: HostID
        var isLocal: Bool
        /// It gets nothing new.
        var isClosed = false
        var creditItems: Int
        var creditBytes: Int
        var sentItems = 0
        var sentBytes = 0
        /// What goes out with this tick.
        var staged: [OpenRun] = []

        /// Zero when the credit was lowered below what is out.
        var freeItems: Int { max(creditItems - sentItems, 0) }
        var freeBytes: Int { max(creditBytes - sentBytes, 0) }

        /// An item larger than the whole credit may go to a host that holds nothing, else it would wait for ever.
        func takes(itemOf bytes: Int) -> Bool { !isClosed && freeItems > 0 && (bytes <= freeBytes || sentItems == 0) }
    }

    private var hosts: [Host] = []
    private var slots: [HostID: Int] = [:]
    private var free: [Int] = []
    // Slots by host id, so that choices do not depend on the order of arrival.
    private var local: [Int] = []
    private var remote: [Int] = []
    private var stagedHosts: [Int] = []

    var count: Int { local.count + remote.count }

    func slot(of id: HostID) -> Int? { slots[id] }
    func id(of slot: Int) -> HostID { hosts[slot].id }
    func credit(of id: HostID) -> (items: Int, bytes: Int)? {
        slots[id].map { (hosts[$0].freeItems, hosts[$0].freeBytes) }
    }

    mutating func up(_ id: HostID, isLocal: Bool, items: Int, bytes: Int) {
        if let slot = slots[id] {
            hosts[slot].creditItems = items
            hosts[slot].creditBytes = bytes
            hosts[slot].isLocal = isLocal
            hosts[slot].isClosed = false
        } else {
            let host = Host(id: id, isLocal: isLocal, creditItems: items, creditBytes: bytes)
            if let slot = free.popLast() {
                hosts[slot] = host
                slots[id] = slot
            } else {
                hosts.append(host)
                slots[id] = hosts.count - 1
            }
        }
        regroup()
    }

    mutating func close(_ id: HostID) {
        if let slot = slots[id] { hosts[slot].isClosed = true }
    }

    mutating func down(_ id: HostID) {
        guard let slot = slots.removeValue(forKey: id) else { return }
        precondition(
            hosts[slot].sentItems == 0 && hosts[slot].sentBytes == 0 && hosts[slot].staged.isEmpty,
            "\(id) goes with \(hosts[slot].sentItems) items, \(hosts[slot].sentBytes) bytes out")
        free.append(slot)
        regroup()
    }

    private mutating func regroup() {
        let known = slots.keys.sorted().compactMap { slots[$0] }
        local = known.filter { hosts[$0].isLocal }
        remote = known.filter { !hosts[$0].isLocal }
    }

    // MARK: Credit

    /// A host for a run whose first item has so many bytes; nil if nobody has credit.
    func choose(firstItem bytes: Int, random: inout UInt64) -> Int? {
        choose(local, bytes, &random) ?? choose(remote, bytes, &random)
    }

    /// The same among hosts on other nodes, or here if there are no others.
    func chooseRemote(firstItem bytes: Int, random: inout UInt64) -> Int? {
        if remote.contains(where: { !hosts[$0].isClosed }) { return choose(remote, bytes, &random) }
        return choose(local, bytes, &random)
    }

    private func choose(_ group: [Int], _ bytes: Int, _ random: inout UInt64) -> Int? {
        guard group.count > 2 else { return group.reduce(nil) { lessLoaded($0, $1, bytes) } }
        let first = draw(&random, below: group.count)
        let step = 1 + draw(&random, below: group.count - 1)
        let second = (first + step) % group.count
        if let found = lessLoaded(lessLoaded(nil, group[first], bytes), group[second], bytes) { return found }
        for offset in 1..<group.count {
            let slot = group[(first + offset) % group.count]
            if hosts[slot].takes(itemOf: bytes) { return slot }
        }
        return nil
    }

    /// The one with the smaller part of its credit out, among those that take the item; the first if equal.
    private func lessLoaded(_ left: Int?, _ right: Int, _ bytes: Int) -> Int? {
        guard hosts[right].takes(itemOf: bytes) else { return left }
        guard let left else { return right }
        let leftLoad = hosts[left].sentItems.multipliedFullWidth(by: hosts[right].creditItems)
        let rightLoad = hosts[right].sentItems.multipliedFullWidth(by: hosts[left].creditItems)
        return (rightLoad.high, rightLoad.low) < (leftLoad.high, leftLoad.low) ? right : left
    }

    private func draw(_ random: inout UInt64, below bound: Int) -> Int {
        random &+= 0x9E37_79B9_7F4A_7C15
        return Int(StableHash.mix(random).multipliedFullWidth(by: UInt64(bound)).high)
    }

    /// How many of the items, from the first on, `slot` may be sent.
    func fit(_ items: ItemBuffer, on slot: Int) -> Int {
        let host = hosts[slot]
        let count = min(items.count, host.freeItems)
        let room = host.freeBytes
        if items.byteCount <= room { return count }
        let least = host.sentItems == 0 ? min(1, count) : 0
        if case .fixed(let stride) = items.layout { return max(min(count, room / stride), least) }
        var low = 0
        var high = count
        while low < high {
            let middle = (low + high + 1) / 2
            if items.slice(from: 0, count: middle).byteCount <= room { low = middle } else { high = middle - 1 }
        }
        return max(low, least)
    }

    /// Takes credit. Returns the bytes taken, fewer than `bytes` only for an item larger than the whole credit.
    mutating func take(_ slot: Int, items: Int, bytes: Int) -> Int {
        let charged = min(bytes, hosts[slot].freeBytes)
        precondition(
            items <= hosts[slot].freeItems && (charged == bytes || items == 1),
            "\(items) items, \(bytes) bytes sent to \(hosts[slot].id) with \(hosts[slot].freeItems) items free")
        hosts[slot].sentItems += items
        hosts[slot].sentBytes += charged
        return charged
    }

    /// Charges what the host has anyhow, free or not. Returns the bytes.
    mutating func charge(_ slot: Int, items: Int, bytes: Int) -> Int {
        hosts[slot].sentItems += items
        hosts[slot].sentBytes += bytes
        return bytes
    }

    mutating func give(_ slot: Int, items: Int, bytes: Int) {
        hosts[slot].sentItems -= items
        hosts[slot].sentBytes -= bytes
        precondition(
            hosts[slot].sentItems >= 0 && hosts[slot].sentBytes >= 0,
            "\(hosts[slot].id): \(hosts[slot].sentItems) items, \(hosts[slot].sentBytes) bytes out")
    }

    // MARK: Sending

    mutating func stage(_ run: OpenRun, for slot: Int) {
        if hosts[slot].staged.isEmpty { stagedHosts.append(slot) }
        hosts[slot].staged.append(run)
    }

    /// Hands out what was staged, in the order in which the hosts were first chosen.
    mutating func takeStaged(_ body: (HostID, [OpenRun]) -> Void) {
        for slot in stagedHosts {
            body(hosts[slot].id, hosts[slot].staged)
            hosts[slot].staged = []
        }
        stagedHosts.removeAll(keepingCapacity: true)
    }
}
