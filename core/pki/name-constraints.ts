/** Whether names satisfy name constraints (RFC 5280 4.2.1.10 and 7; RFC 9598 for internationalised mail). */
import { encodeGeneralName, type GeneralName, inIpRange, mailboxOf, type NameConstraints } from "./general-name.ts";
import { sameName } from "./name.ts";

/** The first name that the constraints do not allow; undefined when all are allowed. */
export function constrainedName(constraints: NameConstraints, names: readonly GeneralName[]): GeneralName | undefined {
  const { permitted, excluded } = constraints;
  return names.find((name) => {
    const relevant = permitted.filter((base) => sameKind(name, base));
    const outside = relevant.length > 0 && !relevant.some((base) => within(name, base));
    return outside || excluded.some((base) => sameKind(name, base) && (name.kind === "other" || within(name, base)));
  });
}

/** Whether they say the same, in whatever order. */
export function sameConstraints(a: NameConstraints | undefined, b: NameConstraints | undefined): boolean {
  const form = (names: readonly GeneralName[] = []) =>
    [...new Set(names.map((name) => encodeGeneralName(name).toString("hex")))].sort().join();
  return form(a?.permitted) === form(b?.permitted) && form(a?.excluded) === form(b?.excluded);
}

/** An otherName that is no mailbox is allowed by no constraint on its own type, since its meaning is not known here. */
function sameKind(name: GeneralName, base: GeneralName): boolean {
  if (mailboxOf(name) !== undefined) return mailboxOf(base) !== undefined || base.kind === "email";
  return name.kind === "other" ? base.kind === "other" && base.oid === name.oid : name.kind === base.kind;
}

function within(name: GeneralName, base: GeneralName): boolean {
  if (name.kind === "directory" && base.kind === "directory") {
    return base.rdns.length <= name.rdns.length && sameName(name.rdns.slice(0, base.rdns.length), base.rdns);
  }
  const text = base.kind === "other" || base.kind === "directory" ? "" : base.value.toLowerCase();
  const mailbox = mailboxOf(name);
  if (mailbox !== undefined) return base.kind === "email" && mailboxWithin(mailbox, base.value);
  switch (name.kind) {
    case "dns":
      // Unlike hosts of URIs and mail, example.com stands for what is below it too.
      return (
        text === "" ||
        name.value.toLowerCase() === text ||
        name.value.toLowerCase().endsWith(text.startsWith(".") ? text : `.${text}`)
      );
    case "ip":
      return inIpRange(name.value, text);
    case "uri":
      return hostWithin(hostOf(name.value), text);
    default:
      return false;
  }
}

/** `.example.com`: hosts below it; `example.com`: that host. */
function hostWithin(host: string | undefined, base: string): boolean {
  if (host === undefined) return false;
  return base.startsWith(".") ? host.endsWith(base) : host === base;
}

/** Local parts are compared as they are, domains without regard to letter case. */
function mailboxWithin(mailbox: string, base: string): boolean {
  const [at, baseAt] = [mailbox.lastIndexOf("@"), base.lastIndexOf("@")];
  const sameLocalPart = baseAt <= 0 || mailbox.slice(0, at) === base.slice(0, baseAt);
  return sameLocalPart && hostWithin(mailbox.slice(at + 1).toLowerCase(), base.slice(baseAt + 1).toLowerCase());
}

/** A URI without a host, or with an address for one, satisfies no constraint (RFC 5280 4.2.1.10). */
function hostOf(uri: string): string | undefined {
  const [, host] = /^[a-z][a-z0-9+.-]*:\/\/(?:[^/?#@]*@)?([^/?#:@[\]]+)/i.exec(uri) ?? [];
  return host !== undefined && !/^[\d.]+$/.test(host) ? host.toLowerCase() : undefined;
}
