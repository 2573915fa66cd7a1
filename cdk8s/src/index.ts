/** Constructs of MazeVault and of every kind of it, for cdk8s. */
export * from "./generated/index.ts";
export { Installation, type InstallationProps, type Program } from "./installation.ts";
export type { ClusterMetadata, Metadata, OneOf } from "./object.ts";
export type * from "./values.ts";
