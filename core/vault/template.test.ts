import fc from "fast-check";
import { Sensitive } from "../sensitive.ts";
import { renderTemplate, templateOrder, templateReferences } from "./template.ts";

const sensitive = (text: string) => new Sensitive(Buffer.from(text, "utf8"));
const render = async (template: string, values: Record<string, string> = {}): Promise<string> => {
  const given = new Map(Object.entries(values).map(([key, value]) => [key, sensitive(value)]));
  return (await renderTemplate("url", template, given)).revealText();
};
const invalid = expect.objectContaining({ code: "TemplateInvalid" });

describe("templateReferences", () => {
  test.each([
    ["postgres://{{ username }}:{{ password | url_encode }}@db/orders", ["password", "username"]],
    ["{{ db-url }} {{ db_url }}", ["db-url", "db_url"]],
    ['{{ ["tls.crt"] }} {{ ["-x"] }} {{ ["1a"] }}', ["-x", "1a", "tls.crt"]],
    ["{% if a == b %}{{ c }}{% else %}{{ d | append: e }}{% endif %}", ["a", "b", "c", "d", "e"]],
    ["{% assign x = a %}{{ x }}", ["a"]],
    ["{% case a %}{% when b %}{{ c }}{% endcase %}", ["a", "b", "c"]],
    ["{% comment %}{{ a }}{% endcomment %}{% raw %}{{ b }}{% endraw %}", []],
    ["no reference", []],
  ])("%s", (template, keys) => {
    expect(templateReferences("url", template)).toEqual(keys);
  });

  test.each([
    ["a property", "{{ tls.crt }}", '{{ ["tls.crt"] }}'],
    ["a computed property", "{{ a[b] }}", "a key with a dot"],
    ["an unknown filter", "{{ a | shout }}", "undefined filter: shout"],
    ["an unclosed output", "{{ a", "not closed"],
    ["a loop", "{% for i in (1..9) %}{{ i }}{% endfor %}", 'tag "for" not found'],
    ["a capture", "{% capture x %}a{% endcapture %}", 'tag "capture" not found'],
    ["a file", "{% include '/etc/passwd' %}", 'tag "include" not found'],
    ["a partial", "{% render 'x' %}", 'tag "render" not found'],
    ["a layout", "{% layout 'x' %}", 'tag "layout" not found'],
    ["a counter", "{% increment a %}", 'tag "increment" not found'],
    ["a filter that multiplies", "{{ a | replace: 'x', b }}", "undefined filter: replace"],
    ["a filter that unlocks the bound of the output", "{{ a | raw }}", "undefined filter: raw"],
    ["too long a template", "x".repeat(20_000), "limit exceeded"],
  ])("%s is refused with the entry named", (_, template, message) => {
    expect(() => templateReferences("url", template)).toThrow(invalid);
    expect(() => templateReferences("url", template)).toThrow(message);
    expect(() => templateReferences("url", template)).toThrow("entry url");
  });
});

describe("renderTemplate", () => {
  test.each([
    ["{{ a }}:{{ b | url_encode }}", "x:p%40ss%2Fw", { a: "x", b: "p@ss/w" }],
    ['{{ ["tls.crt"] }}{{ db-url }}', "12", { "tls.crt": "1", "db-url": "2" }],
    ["{{ a | base64_encode }}", "w7Y=", { a: "ö" }],
    ['{"password": {{ a | json }}}', '{"password": "q\\"uote"}', { a: 'q"uote' }],
    ["{% if a == 'x' %}yes{% else %}no{% endif %}", "no", { a: "y" }],
    ["{{ a | upcase }}{{ a | size }}", "AB2", { a: "ab" }],
    ["{{ a }}", "<&'\">", { a: "<&'\">" }],
    ["{{ a }}", "{{ b }}", { a: "{{ b }}" }],
    ["{{ __proto__ }}", "p", JSON.parse('{"__proto__": "p"}')],
  ])("%s gives %s", async (template, output, values) => {
    expect(await render(template, values)).toBe(output);
  });

  test.each([
    ["a value that names a variable", "{{ [a] }}", { a: "canary" }],
    ["a filter that chokes on the value", "{{ a | url_decode }}", { a: "%canary" }],
    ["an inherited property", "{{ constructor }}", { a: "canary" }],
    ["output without bound", "{{ a }}".repeat(2_000), { a: "canary".repeat(1_000) }],
    ["filters without bound", `{{ a${" | json".repeat(2_000)} }}`, { a: "canary" }],
    [
      "assigned values without bound",
      `{% assign b = a %}${"{% assign b = b | append: b %}".repeat(400)}{{ b }}`,
      { a: "canary" },
    ],
  ])("%s is refused, and the error shows no value", async (_, template, values) => {
    const error = await render(template, values).catch((thrown: unknown) => thrown as Error);
    expect(error).toEqual(invalid);
    const { message, cause, stack } = error as Error;
    expect(`${message}${String(cause)}${stack}`).not.toContain("canary");
  });

  test("a value that is no text is refused", async () => {
    const bytes = new Map([["a", new Sensitive(Buffer.from([0xff, 0xfe]))]]);
    await expect(renderTemplate("url", "{{ a }}", bytes)).rejects.toThrow(
      expect.objectContaining({ code: "ValueInvalid" }),
    );
  });

  test("any text passes through unchanged", async () => {
    await fc.assert(
      fc.asyncProperty(fc.string({ unit: "grapheme" }), async (value) => {
        expect(await render("<{{ a }}>", { a: value })).toBe(`<${value}>`);
      }),
    );
  });
});

describe("templateOrder", () => {
  const names = ["a", "b", "c", "d", "e", "f"];
  /** Each template refers only to names before it in a random order: no cycle. */
  const acyclic = fc
    .tuple(fc.shuffledSubarray(names, { minLength: 1 }), fc.array(fc.array(fc.nat(20)), { minLength: 6, maxLength: 6 }))
    .map(([order, picks]) =>
      order.map((name, index): [string, string[]] => [
        name,
        (picks[index] ?? []).flatMap((pick) => (index === 0 ? [] : (order[pick % index] ?? []))),
      ]),
    );

  test("every template comes after what it refers to", () => {
    fc.assert(
      fc.property(acyclic, (graph) => {
        const references = new Map(graph);
        const order = templateOrder(new Set(names), references);
        expect([...order].sort()).toEqual([...references.keys()].sort());
        for (const [key, others] of references) {
          for (const other of others) expect(order.indexOf(other)).toBeLessThan(order.indexOf(key));
        }
      }),
    );
  });

  test("the circle is named, and nothing but the circle", () => {
    const references = new Map([
      ["start", ["a"]],
      ["a", ["b", "plain"]],
      ["b", ["c"]],
      ["c", ["a"]],
    ]);
    const order = () => templateOrder(new Set(["start", "a", "b", "c", "plain"]), references);
    expect(order).toThrow(expect.objectContaining({ code: "TemplateCycle" }));
    expect(order).toThrow(/: a -> b -> c -> a$/);
    const itself = () => templateOrder(new Set(["a"]), new Map([["a", ["a"]]]));
    expect(itself).toThrow(/: a -> a$/);
  });

  test("a key that is no entry is named", () => {
    const order = () => templateOrder(new Set(["url"]), new Map([["url", ["pasword"]]]));
    expect(order).toThrow(invalid);
    expect(order).toThrow("entry url: the template refers to pasword, which is no entry; there are url");
  });
});
