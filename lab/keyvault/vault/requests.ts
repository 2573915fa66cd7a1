import { z } from "zod";
import { badParameter, invalidProperty, KeyVaultError, methodNotAllowed } from "../errors.ts";
import type { SecretProperties } from "./vault.ts";

/** The `api-version` values that the secrets data plane accepts; see "Key Vault versions" and the SDK's own list. */
const API_VERSIONS: ReadonlySet<string> = new Set([
  "2015-06-01",
  "2016-10-01",
  "7.0",
  "7.1",
  "7.2",
  "7.3",
  "7.4",
  "7.5",
  "7.6-preview.1",
  "7.6-preview.2",
  "7.6",
  "2025-06-01-preview",
  "2025-07-01",
  "2026-04-01",
]);

const NAME = /^[0-9a-zA-Z-]{1,127}$/;
const VERSION = /^[0-9a-fA-F]{32}$/;
export const MAXIMUM_PAGE = 25;
const MAXIMUM_VALUE_BYTES = 25_600;

/** Operations by the names they have in "Azure Key Vault logging". */
export const OPERATIONS = [
  "SecretSet",
  "SecretGet",
  "SecretUpdate",
  "SecretDelete",
  "SecretList",
  "SecretListVersions",
  "SecretBackup",
  "SecretRestore",
  "SecretGetDeleted",
  "SecretListDeleted",
  "SecretRecover",
  "SecretPurge",
] as const;
export type Operation = (typeof OPERATIONS)[number];

export interface SecretRequest {
  readonly operation: Operation;
  /** Empty for lists and restore. */
  readonly name: string;
  readonly version?: string;
}

type Route = Partial<Record<string, Operation>>;

const COLLECTION: Route = { GET: "SecretList" };
const SECRET: Route = { PUT: "SecretSet", GET: "SecretGet", PATCH: "SecretUpdate", DELETE: "SecretDelete" };
const VERSION_OF_SECRET: Route = { GET: "SecretGet", PATCH: "SecretUpdate" };
const VERSIONS: Route = { GET: "SecretListVersions" };
const BACKUP: Route = { POST: "SecretBackup" };
const RESTORE: Route = { POST: "SecretRestore" };
const DELETED_COLLECTION: Route = { GET: "SecretListDeleted" };
const DELETED: Route = { GET: "SecretGetDeleted", DELETE: "SecretPurge" };
const RECOVER: Route = { POST: "SecretRecover" };

/**
 * What a method and a path ask for; `undefined` for what is not a secrets path.
 * @throws KeyVaultError 405
 */
export function recognise(method: string, pathname: string): SecretRequest | undefined {
  // Clients join "https://NAME.vault.azure.net/" and "/secrets"; the service takes the doubled slash.
  const [collection, name, detail, ...more] = pathname.replace(/^\/+/, "").split("/").map(decode);
  if (more.length > 0) {
    return undefined;
  }
  const found = route(collection ?? "", name ?? "", detail ?? "", method);
  if (found === undefined) {
    return undefined;
  }
  const operation = found[method];
  if (operation === undefined) {
    throw methodNotAllowed(Object.keys(found));
  }
  const named = operation === "SecretRestore" ? "" : (name ?? "");
  const version = found === VERSION_OF_SECRET && detail !== "" ? { version: detail ?? "" } : {};
  return { operation, name: named, ...version };
}

function route(collection: string, name: string, detail: string, method: string): Route | undefined {
  if (collection === "secrets") {
    if (name === "") {
      return COLLECTION;
    }
    if (name === "restore" && detail === "" && method === "POST") {
      return RESTORE;
    }
    return { "": SECRET, versions: VERSIONS, backup: BACKUP }[detail] ?? VERSION_OF_SECRET;
  }
  if (collection === "deletedsecrets") {
    return name === "" ? DELETED_COLLECTION : { "": DELETED, recover: RECOVER }[detail];
  }
  return undefined;
}

function decode(segment: string): string {
  try {
    return decodeURIComponent(segment);
  } catch {
    throw badParameter("The request URI contains an invalid character");
  }
}

/** @throws KeyVaultError BadParameter */
export function validateAddress(request: SecretRequest, query: URLSearchParams): void {
  const version = query.get("api-version");
  if (version === null || version === "") {
    throw badParameter("api-version must be specified");
  }
  if (!API_VERSIONS.has(version)) {
    throw badParameter(
      `The specified version (${version}) is not recognized. Consider using the latest supported version (2026-04-01).`,
    );
  }
  if (request.name !== "" && !NAME.test(request.name)) {
    throw badParameter(`The request URI contains an invalid name: ${request.name}`);
  }
  if (request.version !== undefined && !VERSION.test(request.version)) {
    throw badParameter(`The request URI contains an invalid version: ${request.version}`);
  }
}

/**
 * The page size asked for.
 * @throws KeyVaultError BadParameter outside 1 to 25
 */
export function pageSize(query: URLSearchParams): number {
  const text = query.get("maxresults");
  if (text === null) {
    return MAXIMUM_PAGE;
  }
  const size = Number(text);
  if (!Number.isInteger(size) || size < 1 || size > MAXIMUM_PAGE) {
    throw badParameter(`Invalid maxresults: ${text}. The value must be between 1 and ${MAXIMUM_PAGE}.`);
  }
  return size;
}

const time = z.number().int().min(0).nullish();
const attributes = z.object({ enabled: z.boolean().nullish(), nbf: time, exp: time }).nullish();
// The limits of "About Azure Key Vault secrets", section on tags.
const tags = z
  .record(z.string().min(1).max(512), z.string().max(256))
  .refine((value) => Object.keys(value).length <= 15)
  .nullish();
const properties = z.object({ contentType: z.string().max(255).nullish(), attributes, tags });
const setBody = properties.extend({
  value: z.string().refine((value) => Buffer.byteLength(value) <= MAXIMUM_VALUE_BYTES),
});
const restoreBody = z.object({ value: z.string().min(1) });

/** @throws KeyVaultError BadParameter */
export function parseSet(text: string): { value: string; properties: SecretProperties } {
  const body = parse(setBody, text);
  return { value: body.value, properties: propertiesOf(body) };
}

/** @throws KeyVaultError BadParameter */
export function parseUpdate(text: string): SecretProperties {
  return propertiesOf(parse(properties, text));
}

/** @throws KeyVaultError BadParameter */
export function parseRestore(text: string): string {
  return parse(restoreBody, text).value;
}

function parse<Body>(schema: z.ZodType<Body>, text: string): Body {
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch {
    throw badParameter("Bad JSON content found in the request.");
  }
  const parsed = schema.safeParse(document);
  if (!parsed.success) {
    throw invalidProperty();
  }
  return parsed.data;
}

function propertiesOf(body: z.infer<typeof properties>): SecretProperties {
  const { enabled, nbf, exp } = body.attributes ?? {};
  return {
    ...(body.contentType == null ? {} : { contentType: body.contentType }),
    ...(body.tags == null ? {} : { tags: body.tags }),
    ...(enabled == null ? {} : { enabled }),
    ...(nbf == null ? {} : { nbf }),
    ...(exp == null ? {} : { exp }),
  };
}

/** The answer to a path that the data plane does not have. */
export const unknownPath = (pathname: string) =>
  new KeyVaultError(404, "NotFound", `The request URI was not found: ${pathname}`);
