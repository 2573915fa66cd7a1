/** Constructs of every kind of MazeVault, for cdk8s. */
export * from "./generated/index.ts";
export type { ClusterMetadata, Metadata, OneOf } from "./object.ts";
