/** `docs/generators.md`: each of its examples is made as it is printed, and none of the generators and filters is without one. */
import { createPrivateKey, createPublicKey, createSecretKey, randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import path from "node:path";
import { compareSync } from "bcryptjs";
import { parse } from "yaml";
import { GENERATOR_KINDS, secretSpec } from "../../../crds/secret.ts";
import { identity } from "../../ports/samples.ts";
import { valueFilters } from "../filters.ts";
import { Digester } from "../fingerprint.ts";
import { makeEntries } from "../material.ts";
import { planVersion } from "../recipe.ts";

const page = readFileSync(path.join(import.meta.dirname, "../../../docs/generators.md"), "utf8");
const blocks = [...page.matchAll(/^```yaml\n(.*?)^```$/gms)].map(([, text = ""]) => parse(text));
const examples = blocks.map((block) => secretSpec.shape.entries.parse(block.entries ?? block.spec.entries));
const digester = new Digester(createSecretKey(randomBytes(32)), "installation", identity("one"));
const make = async (index: number): Promise<Readonly<Record<string, string>>> => {
  const entries = examples[index] ?? [];
  const made = await makeEntries(digester, entries, new Map(), new Map());
  expect(planVersion(digester, entries, made, new Map())).toEqual({ kind: "Unchanged" });
  return Object.fromEntries(made.map(({ key, value }) => [key, value.revealText()]));
};

test.each(examples.map((_, index) => index))("example %i can be made, and is made once", async (index) => {
  const made = await make(index);
  expect(Object.keys(made)).toHaveLength(examples[index]?.length ?? 0);
});

test("every generator and every filter has an example", () => {
  const all = examples.flat();
  const kinds = new Set(all.flatMap(({ generate }) => (generate === undefined ? [] : [generate.kind])));
  expect([...kinds].sort()).toEqual([...GENERATOR_KINDS].sort());
  const templates = all.map(({ template }) => template ?? "").join("\n");
  for (const name of Object.keys(valueFilters(String))) expect(templates).toContain(`| ${name}`);
});

test("what is derived belongs to what it is derived from", async () => {
  const made = await make(examples.length - 1);
  const publicKey = createPublicKey(createPrivateKey(made["jwt.pem"] ?? ""));
  expect(createPublicKey(made["jwt.pub"] ?? "").equals(publicKey)).toBe(true);
  expect(made.authorized_keys).toMatch(/^ssh-ed25519 \S{68} deploy@shop$/);
  expect(compareSync(made.password ?? "", made.hash ?? "")).toBe(true);
  expect(made.registry).toMatch(/^anna:\$2y\$10\$/);
  expect([made.host, made.token]).toEqual(["a.example.com", "secret"]);
});

test("passwords follow the rules that are printed", async () => {
  const made = await make(1);
  expect(made.database).toMatch(/^[^'"`\\]{30}$/);
  expect(made["letters-and-digits"]).toMatch(/^[A-Za-z0-9]{32}$/);
  expect(made.partner).toMatch(/^(?=(.*[A-Z]){2})(?=(.*[a-z]){2})(?=(.*\d){4})(?=(.*[-_.]){2})[-_.A-Za-z\d]{16}$/);
});
