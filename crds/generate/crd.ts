import { GROUP, type KindDefinition, UNSEEN_GENERATION, VERSION } from "../common.ts";
import { type StructuralSchema, structural } from "./structural.ts";

/** The part of apiextensions.k8s.io/v1 that MazeVault writes. */
export interface CustomResourceDefinition {
  readonly apiVersion: "apiextensions.k8s.io/v1";
  readonly kind: "CustomResourceDefinition";
  readonly metadata: { readonly name: string };
  readonly spec: {
    readonly group: string;
    readonly scope: KindDefinition["scope"];
    readonly names: Readonly<Record<string, string | readonly string[]>>;
    readonly versions: readonly [
      {
        readonly name: string;
        readonly served: true;
        readonly storage: true;
        readonly schema: { readonly openAPIV3Schema: StructuralSchema };
        readonly subresources: { readonly status: Readonly<Record<string, never>> };
        readonly additionalPrinterColumns: KindDefinition["columns"];
      },
    ];
  };
}

/** @throws NotStructural */
export function customResourceDefinition(kind: KindDefinition): CustomResourceDefinition {
  return {
    apiVersion: "apiextensions.k8s.io/v1",
    kind: "CustomResourceDefinition",
    metadata: { name: `${kind.plural}.${GROUP}` },
    spec: {
      group: GROUP,
      scope: kind.scope,
      names: {
        kind: kind.kind,
        listKind: `${kind.kind}List`,
        plural: kind.plural,
        singular: kind.singular,
        shortNames: kind.shortNames,
        categories: ["mazevault"],
      },
      versions: [
        {
          name: VERSION,
          served: true,
          storage: true,
          schema: { openAPIV3Schema: resourceSchema(kind) },
          subresources: { status: {} },
          additionalPrinterColumns: kind.columns,
        },
      ],
    },
  };
}

/** The schema of a whole object. apiVersion, kind and metadata are the API server's own. */
export function resourceSchema(kind: KindDefinition): StructuralSchema {
  return {
    type: "object",
    description: kind.description,
    required: ["spec"],
    properties: {
      spec: { description: "What is wanted.", ...structural(kind.spec, `${kind.kind}.spec`) },
      status: {
        description: "What was last observed.",
        // By the rules of kstatus an object without a status is in order, so tools would not wait for a new one.
        default: { observedGeneration: UNSEEN_GENERATION },
        ...structural(kind.status, `${kind.kind}.status`),
      },
    },
    ...(kind.rules === undefined ? {} : { "x-kubernetes-validations": kind.rules }),
  };
}
