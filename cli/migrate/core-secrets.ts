/** Core Secrets as `kubectl get secrets -o yaml` shows them: what the cluster has now. Their values go nowhere but into a seal. */
import { z } from "zod";
import { UsageError } from "../errors.ts";
import type { Manifest } from "./manifests.ts";

const data = z.record(z.string(), z.string()).nullish();

export interface GivenCoreSecret {
  readonly type: string;
  readonly values: ReadonlyMap<string, Buffer>;
}

export class CoreSecrets {
  readonly #secrets: ReadonlyMap<string, GivenCoreSecret>;

  /** @throws UsageError */
  constructor(manifests: readonly Manifest[]) {
    const secrets = manifests.filter(({ apiVersion, kind }) => apiVersion === "v1" && kind === "Secret");
    this.#secrets = new Map(
      secrets.map((manifest) => {
        const { metadata, source, type, data: encoded, stringData } = manifest;
        const [inBase64, plain] = [data.safeParse(encoded), data.safeParse(stringData)];
        if (!inBase64.success || !plain.success) {
          throw new UsageError(
            `${source}: the data of core Secret ${metadata.namespace}/${metadata.name} is no map of texts`,
          );
        }
        const values = new Map([
          ...Object.entries(inBase64.data ?? {}).map(([key, text]) => [key, Buffer.from(text, "base64")] as const),
          ...Object.entries(plain.data ?? {}).map(([key, text]) => [key, Buffer.from(text, "utf8")] as const),
        ]);
        return [placed(metadata.namespace, metadata.name), { type: String(type ?? "Opaque"), values }];
      }),
    );
  }

  get(namespace: string, name: string): GivenCoreSecret | undefined {
    return this.#secrets.get(placed(namespace, name));
  }
}

const placed = (namespace: string | undefined, name: string): string => `${namespace ?? ""}/${name}`;
