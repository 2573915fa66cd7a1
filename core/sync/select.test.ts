import { type SecretScope, selectSecrets } from "./select.ts";

const secrets = [
  { name: "orders-db", labels: { app: "orders", tier: "db" } },
  { name: "orders-api", labels: { app: "orders" } },
  { name: "mail", labels: {} },
];
const selected = (scope: SecretScope | undefined) => selectSecrets(secrets, scope).map(({ name }) => name);

describe("selectSecrets", () => {
  it.each<[string, SecretScope | undefined, string[]]>([
    ["an absent scope means all", undefined, ["orders-db", "orders-api", "mail"]],
    ["a name without a star is that name", { names: ["mail"] }, ["mail"]],
    ["a name without a star matches no part", { names: ["orders"] }, []],
    ["a star stands for any characters", { names: ["orders-*"] }, ["orders-db", "orders-api"]],
    ["a star may stand for none", { names: ["mail*"] }, ["mail"]],
    ["several stars match in their order", { names: ["*o*d*-*a*"] }, ["orders-api"]],
    ["what follows the last star ends the name", { names: ["*-d"] }, []],
    ["the ends may not overlap", { names: ["mail*il"] }, []],
    ["one of several names is enough", { names: ["mail", "*-db"] }, ["orders-db", "mail"]],
    ["labels must be equal", { selector: { matchLabels: { app: "orders", tier: "db" } } }, ["orders-db"]],
    ["an empty selector selects all", { selector: {} }, ["orders-db", "orders-api", "mail"]],
    [
      "names and labels hold together",
      { names: ["*-db"], selector: { matchLabels: { app: "orders" } } },
      ["orders-db"],
    ],
    ["In needs one of the values", expression("In", ["db", "web"]), ["orders-db"]],
    ["NotIn also takes who lacks the label", expression("NotIn", ["db"]), ["orders-api", "mail"]],
    ["Exists asks for the label only", expression("Exists"), ["orders-db"]],
    ["DoesNotExist asks for its absence", expression("DoesNotExist"), ["orders-api", "mail"]],
  ])("%s", (_, scope, expected) => {
    expect(selected(scope)).toEqual(expected);
  });

  it("takes linear time for a pattern made of stars", () => {
    const long = [{ name: "a".repeat(253), labels: {} }];
    expect(selectSecrets(long, { names: [`${"*a".repeat(120)}*b`] })).toEqual([]);
  });
});

type Expression = NonNullable<NonNullable<SecretScope["selector"]>["matchExpressions"]>[number];

function expression(operator: Expression["operator"], values?: string[]): SecretScope {
  return { selector: { matchExpressions: [{ key: "tier", operator, ...(values && { values }) }] } };
}
