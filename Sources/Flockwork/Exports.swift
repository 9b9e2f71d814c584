// Flockwork · Apache-2.0 · see LICENSE

// A user imports Flockwork and nothing else: the vocabulary of the wire, the models and the actor system come with it.

@_exported public import Distributed
@_exported public import FlockActors
@_exported public import FlockModels
@_exported public import FlockWire

@_exported public import enum FlockCluster.InstanceCount
@_exported public import struct FlockCluster.MemberSpec

/// How many instances of a stage run, and where.
public typealias Instances = InstanceCount

/// A node as the cluster's configuration names it.
public typealias Member = MemberSpec
