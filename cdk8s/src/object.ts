/** What the constructs of all kinds have in common. */
import { ApiObject } from "cdk8s";

/** What is noted on an object of the whole cluster. */
export type ClusterMetadata = {
  /**
   * Name of the object. Values, keys and certificates belong to it, so it is always said, and does not follow from where
   * the construct stands: code that is moved would otherwise make another object with other values.
   */
  readonly name: string;
  /** Labels, beside those of the chart. */
  readonly labels?: Readonly<Record<string, string>>;
  /** Annotations. */
  readonly annotations?: Readonly<Record<string, string>>;
};

/** What is noted on an object of a namespace. */
export type Metadata = ClusterMetadata & {
  /** Namespace; that of the chart when absent. */
  readonly namespace?: string;
};

/** Exactly one of these fields. */
export type OneOf<Fields> = {
  [Field in keyof Fields]: Pick<Fields, Field> & { readonly [Other in Exclude<keyof Fields, Field>]?: never };
}[keyof Fields];

/** An object of the whole cluster. */
export abstract class ClusterObject extends ApiObject {
  /** A chart gives its namespace to everything in it; this has none. */
  override toJson(): { metadata: { namespace?: string } } {
    const manifest = super.toJson();
    delete manifest.metadata.namespace;
    return manifest;
  }
}
