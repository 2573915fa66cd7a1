/**
 * Manifests without what may be secret in them, for those who help from outside. What is kept is what is known to be
 * harmless: names, references, numbers, choices. Whatever a person writes as they like is left out.
 */

const REDACTED = "[redacted]";

/** Fields of our kinds whose text may be a value, or hold one. */
const VALUES = new Set(["literal", "sealed", "template", "caBundle", "email"]);

interface Manifest {
  readonly metadata: object;
  readonly spec?: unknown;
}

/** Annotations may hold the whole manifest again (kubectl apply writes it there), and managedFields say nothing more. */
export function redactResource<T extends Manifest>(resource: T): T {
  const { annotations, managedFields: _, ...metadata } = resource.metadata as Record<string, unknown>;
  const kept = annotations === undefined ? {} : { annotations: blanked(annotations as object) };
  return { ...resource, metadata: { ...metadata, ...kept }, spec: redactSpec(resource.spec) };
}

export function redactSpec(value: unknown): unknown {
  if (typeof value === "string") return redactUrl(value);
  if (Array.isArray(value)) return value.map(redactSpec);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([name, inner]) => [name, VALUES.has(name) ? REDACTED : redactSpec(inner)]),
  );
}

/** The host is what matters; user, path and query of a webhook may be all the credentials that it has. */
function redactUrl(text: string): string {
  if (!/^[a-z][a-z0-9+.-]*:\/\//i.test(text)) return text;
  const url = URL.parse(text);
  if (url === null) return REDACTED;
  const bare =
    url.pathname === "/" && url.search === "" && url.hash === "" && url.username === "" && url.password === "";
  return bare ? text : `${url.protocol}//${url.host}/${REDACTED}`;
}

const blanked = (annotations: object): Record<string, string> =>
  Object.fromEntries(Object.keys(annotations).map((name) => [name, REDACTED]));
