import { randomBytes } from "node:crypto";
import { actor, identity, lifecycle } from "../../core/ports/samples.ts";
import { UNLED } from "../../core/ports/vault-store.ts";
import { Sensitive } from "../../core/sensitive.ts";
import { seal } from "../../core/vault/sealing.ts";
import { withConnection } from "./testing/client.ts";
import { openInstallation } from "./testing/installation.ts";
import { startServer } from "./testing/server.ts";

/** Forms in which a value could have slipped out. */
const forms = (value: string): readonly string[] => {
  const bytes = Buffer.from(value, "utf8");
  // In base64 a value looks different at each of the three offsets it can have in a larger text.
  const shifted = [0, 1, 2].map((offset) =>
    Buffer.concat([Buffer.alloc(offset), bytes])
      .toString("base64")
      .slice(offset === 0 ? 0 : 4, -4),
  );
  return [value, bytes.toString("hex"), encodeURIComponent(value), JSON.stringify(value).slice(1, -1), ...shifted];
};

test("nothing in the database shows a value", async () => {
  const server = await startServer();
  try {
    const { database, stores, vault } = await openInstallation(await server.database());
    const writer = { epoch: await stores.leadership.acquireEpoch("test") };
    const [literal, source, written, sealed] = [1, 2, 3, 4].map(
      (n) => `canary/${n} ö"${randomBytes(16).toString("hex")}`,
    );
    if (literal === undefined || source === undefined || written === undefined || sealed === undefined) {
      throw new Error("expected canaries");
    }
    const { sealingKey } = await vault.prepareProject(writer, "payments");
    const place = { ...identity("canary"), key: "sealed" };
    const request = {
      identity: identity("canary"),
      entries: [
        { key: "literal", literal },
        { key: "source", secretRef: { name: "source", key: "value" } },
        { key: "generated", generate: { kind: "Password" } },
        { key: "written", external: {} },
        { key: "sealed", sealed: await seal(sealingKey, place, new Sensitive(sealed)) },
        { key: "template", template: "{{ literal }}:{{ source | url_encode }}:{{ generated | base64_encode }}" },
      ],
      lifecycle,
      actor,
    } as const;
    const sources = new Map([["source", new Sensitive(Buffer.from(source, "utf8"))]]);
    const { record: seen } = await vault.store(writer, { ...request, seen: undefined, sources });
    const given = new Map([["written", new Sensitive(written)]]);
    const { record } = await vault.put(UNLED, { ...request, readers: undefined, seen, values: given });
    const { values } = await vault.open(record, { actor, purpose: "Delivery" });
    const dump = await withConnection(database, async (client) => {
      const { rows: tables } = await client.query<{ name: string }>(
        "SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables WHERE schemaname = 'mazevault'",
      );
      let text = "";
      for (const { name } of tables) {
        const { rows } = await client.query<{ row: string }>(`SELECT t::text AS row FROM ${name} t`);
        text += rows.map(({ row }) => row).join("\n");
      }
      return text.toLowerCase();
    });
    expect(dump).toContain("canary");
    expect([...values.keys()].sort()).toEqual(["generated", "literal", "sealed", "source", "template", "written"]);
    for (const value of values.values()) {
      for (const form of forms(value.reveal().toString("utf8"))) expect(dump).not.toContain(form.toLowerCase());
    }
    await stores.close();
  } finally {
    await server.stop();
  }
});
