import { Sensitive } from "../../core/sensitive.ts";
import { renderTemplate } from "../../core/vault/template.ts";
import { translate } from "./go-template.ts";

const entryOf = (key: string): string | undefined => (key === "gone" ? undefined : key);

/** What the product makes of the translation. */
async function rendered(text: string, values: Readonly<Record<string, string>>): Promise<string> {
  const translated = translate(text, entryOf);
  if (translated.kind !== "Template") throw new Error(translated.kind);
  const known = translated.references.map((key) => [key, new Sensitive(Buffer.from(values[key] ?? ""))] as const);
  return (await renderTemplate("text", translated.liquid, new Map(known))).reveal().toString("utf8");
}

test.each([
  ["postgres://{{ .user }}:{{.password}}@db", { user: "u", password: "p" }, "postgres://u:p@db"],
  ['{{ index . "tls.crt" }}!', { "tls.crt": "pem" }, "pem!"],
  ["{{ .user | b64enc }}", { user: "ü" }, "w7w="],
  ["{{ b64dec .user }}", { user: "w7w=" }, "ü"],
  ["{{ .user | toString | trim }}|", { user: " u\n" }, "u|"],
  ["{{ .user | sha256sum }}", { user: "u" }, "0bfe935e70c321c7ca3afc75ce0d0ca2f98b5422e008bb31c00c6d7f1f1c0ad6"],
  ["a \n {{- .user -}} \n b", { user: "u" }, "aub"],
  ["{{ .true }}{{ $.nil }}", { true: "t", nil: "n" }, "tn"],
])("%j gives the same bytes as Go", async (text, values, expected) => {
  expect(await rendered(text, values as Record<string, string>)).toBe(expected);
});

test("the same value and plain text are told apart", () => {
  expect(translate("{{ .user }}", entryOf)).toEqual({ kind: "Same", key: "user" });
  expect(translate("{{ .user }}\n", entryOf)).toMatchObject({ kind: "Template", liquid: "{{ user }}\n" });
  expect(translate("no {% action %}", entryOf)).toEqual({ kind: "Literal", text: "no {% action %}" });
});

test.each([
  "{{ .user | urlquery }}",
  "{{ .user | upper }}",
  '{{ .user | default "x" }}',
  '{{ printf "%s" .user }}',
  "{{ if .user }}x{{ end }}",
  "{{ range . }}{{ end }}",
  "{{/* said besides */}}",
  "{{ .gone }}",
  "{{ .user.name }}",
  "{{ .user }}{% raw %}",
  "{{ .constructor | constructor }}",
])("%s has no equal", (text) => {
  expect(translate(text, entryOf)).toMatchObject({ kind: "Unknown" });
});
