/** Which series and labels an expression of PromQL leans on, by Prometheus' own grammar, and whether that makes sense of what programs tell. */
import { parser } from "@prometheus-io/lezer-promql";

export interface Series {
  readonly type: "counter" | "gauge" | "bucket";
  readonly labels: ReadonlySet<string>;
}

export interface Judgement {
  /** Empty when everything exists and is used as what it is. */
  readonly problems: readonly string[];
  /** Series that are named. */
  readonly series: ReadonlySet<string>;
  /** Labels that the result may have. */
  readonly labels: ReadonlySet<string>;
}

type Node = ReturnType<typeof parser.parse>["topNode"];

/** What Prometheus, or what finds its targets, puts on each series. */
export const TARGET_LABELS = ["instance", "job", "namespace", "pod"] as const;

const OF_COUNTERS = new Set(["Rate", "Increase", "Irate"]);
const SET_OPERATIONS = new Set(["And", "Or", "Unless"]);
const COMPARISONS = new Set(["Eql", "Neq", "Gtr", "Lss", "Gte", "Lte", "And", "Unless"]);
const NONE: ReadonlySet<string> = new Set();

const childrenOf = (node: Node): readonly Node[] => {
  const found: Node[] = [];
  for (let child = node.firstChild; child !== null; child = child.nextSibling) found.push(child);
  return found;
};
const childOf = (node: Node, name: string): Node | undefined => childrenOf(node).find((child) => child.name === name);
const without = (labels: ReadonlySet<string>, gone: Iterable<string>) => labels.difference(new Set(gone));

export function judge(expr: string, known: ReadonlyMap<string, Series>): Judgement {
  const problems: string[] = [];
  const series = new Set<string>();
  const text = ({ from, to }: Node): string => expr.slice(from, to);
  const namesIn = (node: Node | undefined): readonly string[] => (node ? childrenOf(node).map(text) : []);

  /** @returns labels of what the node evaluates to */
  const visit = (node: Node): ReadonlySet<string> => {
    switch (node.name) {
      case "VectorSelector":
        return selected(node);
      case "AggregateExpr":
        return aggregated(node);
      case "BinaryExpr":
        return combined(node);
      case "FunctionCall":
        return called(node);
      default: {
        // Of brackets, offsets, ranges and lists of arguments: what they are about.
        const all = childrenOf(node).map(visit);
        return all.reduce((one, other) => one.union(other), NONE);
      }
    }
  };

  const selected = (node: Node): ReadonlySet<string> => {
    const name = text(childOf(node, "Identifier") ?? node);
    series.add(name);
    const found = known.get(name);
    if (found === undefined) {
      problems.push(`${name} is told by no program`);
      return NONE;
    }
    const allowed = found.labels.union(new Set(TARGET_LABELS));
    for (const matcher of childrenOf(childOf(node, "LabelMatchers") ?? node)) {
      const label = childOf(matcher, "LabelName");
      if (label && !allowed.has(text(label))) problems.push(`${name} has no label ${text(label)}`);
    }
    const misused = misuse(node, found.type);
    if (misused !== undefined) problems.push(`${name} is a ${found.type}${misused}`);
    return allowed;
  };

  const aggregated = (node: Node): ReadonlySet<string> => {
    const labels = visit(childOf(node, "FunctionCallBody") ?? node);
    const modifier = childOf(node, "AggregateModifier");
    const named = namesIn(modifier && childOf(modifier, "GroupingLabels"));
    for (const label of named) if (!labels.has(label)) problems.push(`${text(node)} has no label ${label} to group by`);
    if (modifier === undefined) return /^(topk|bottomk)\b/.test(text(node)) ? labels : NONE;
    return childOf(modifier, "By") ? new Set(named) : without(labels, named);
  };

  const combined = (node: Node): ReadonlySet<string> => {
    const children = childrenOf(node);
    const [left = NONE, right = NONE] = children.filter(({ name }) => !isOperator(name)).map(visit);
    const clause = childOf(node, "MatchingModifierClause");
    for (const label of namesIn(clause && childOf(clause, "GroupingLabels")))
      if (!left.has(label) || !right.has(label)) problems.push(`${text(node)} has no label ${label} on both sides`);
    const isSet = children.some(({ name }) => SET_OPERATIONS.has(name));
    if (isSet) return childOf(node, "Or") ? left.union(right) : left;
    // A number has no labels, and takes none away.
    return left.size === 0 ? right : left;
  };

  const called = (node: Node): ReadonlySet<string> => {
    const labels = visit(childOf(node, "FunctionCallBody") ?? node);
    if (functionOf(node) !== "HistogramQuantile") return labels;
    if (!labels.has("le")) problems.push(`${text(node)} has no label le to make a quantile of`);
    return without(labels, ["le"]);
  };

  const tree = parser.parse(expr);
  tree.iterate({
    enter: ({ type, from }) => {
      if (type.isError) problems.push(`it does not parse at ${from}: ${expr}`);
    },
  });
  const labels = visit(tree.topNode);
  return { problems, series, labels };
}

const isOperator = (name: string): boolean =>
  /^[A-Z]/.test(name) && !/(Selector|Expr|Call|Literal)$/.test(name) && name !== "Identifier";

const functionOf = (call: Node): string | undefined => call.firstChild?.firstChild?.name;

/** Undefined when a series of this type makes sense there. */
function misuse(selector: Node, type: Series["type"]): string | undefined {
  const calls: string[] = [];
  for (let at = selector.parent; at !== null; at = at.parent)
    if (at.name === "FunctionCall") calls.push(functionOf(at) ?? "");
  const overTime = selector.parent?.name === "MatrixSelector";
  if (type === "gauge" && overTime && OF_COUNTERS.has(calls[0] ?? "")) return ", so it has no rate";
  if (type === "gauge" && calls.includes("HistogramQuantile")) return ", and no buckets of a histogram";
  if (type === "gauge") return undefined;
  if (type === "bucket" && !calls.includes("HistogramQuantile")) return ", which only makes sense in a quantile";
  if (type === "counter" && calls.includes("HistogramQuantile")) return ", and no buckets of a histogram";
  if (overTime) return OF_COUNTERS.has(calls[0] ?? "") ? undefined : ", so its rate or increase counts";
  let at = selector.parent;
  while (at?.name === "ParenExpr" || at?.name === "OffsetExpr") at = at.parent;
  const isAsked = calls.includes("Absent") || (at !== null && childrenOf(at).some(({ name }) => COMPARISONS.has(name)));
  return isAsked ? undefined : ", so its rate or increase counts";
}
