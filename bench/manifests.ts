/** Secrets as people write them: a user name, a generated password, and the connection string made from both. */
import type { WritableObject } from "../controllers/runtime/transport.ts";
import { secretManifest } from "../e2e/harness.ts";

export const secretName = (index: number): string => `database-${String(index).padStart(5, "0")}`;

export const databaseSecret = (namespace: string, index: number): WritableObject =>
  secretManifest(namespace, secretName(index), {
    entries: [
      { key: "username", literal: `orders-${index}` },
      { key: "password", generate: { kind: "Password", length: 32 } },
      { key: "url", template: "postgres://{{ username }}:{{ password | url_encode }}@db:5432/orders" },
    ],
    deliver: {},
  }) as WritableObject;

/** What MazeVault delivers for such a secret, as far as its size is concerned. */
export const coreSecret = (namespace: string, name: string): WritableObject => ({
  apiVersion: "v1",
  kind: "Secret",
  metadata: {
    name,
    namespace,
    labels: { "app.kubernetes.io/managed-by": "bench" },
    annotations: {
      "mazevault.io/delivered-from": name,
      "mazevault.io/installation": "00000000-0000-0000-0000-000000000000",
    },
  },
  type: "Opaque",
  data: Object.fromEntries(
    Object.entries({ username: 10, password: 32, url: 80 }).map(([key, bytes]) => [
      key,
      Buffer.alloc(bytes, "x").toString("base64"),
    ]),
  ),
});

/** A status of the size that a delivered secret has. */
export const deliveredStatus = (now: Date) => ({
  observedGeneration: 1,
  version: 1,
  conditions: ["Ready", "Stored", "Delivered"].map((type) => ({
    type,
    status: "True",
    reason: "Succeeded",
    message: "core Secret database-00000 holds version 1",
    observedGeneration: 1,
    lastTransitionTime: `${now.toISOString().slice(0, 19)}Z`,
  })),
});
