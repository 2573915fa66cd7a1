import { Fenced, Stalled, Unavailable, Waiting } from "../../../core/errors.ts";
import { Conflict } from "../../../core/ports/vault-store.ts";
import { notOnboarded } from "../../cluster.ts";
import { ApiError } from "../../runtime/api-error.ts";
import { asKnown } from "./copy.ts";

const answered = (status: number, reason: string, message: string) => new ApiError({ status, reason, message });

test.each<{ title: string; error: unknown; kind: unknown; code?: string; says?: RegExp }>([
  {
    title: "missing rights are told as they are, and concern one namespace",
    error: answered(403, "Forbidden", "secrets is forbidden: cannot create resource"),
    kind: Stalled,
    code: "NamespaceNotOnboarded",
    says: /cannot create resource/,
  },
  { title: "no access yet", error: notOnboarded("jobs"), kind: Stalled, code: "NamespaceNotOnboarded", says: /jobs/ },
  {
    title: "an API server that fails",
    error: answered(500, "InternalError", "etcd is away"),
    kind: Unavailable,
    code: "ApiServerUnavailable",
  },
  {
    title: "somebody was faster there",
    error: answered(409, "Conflict", "modified"),
    kind: Waiting,
    code: "Progressing",
  },
  { title: "the secret was purged", error: new Conflict("id"), kind: Waiting, code: "Progressing" },
  { title: "another replica leads", error: new Fenced(1n), kind: Fenced },
  { title: "a fault of our own", error: new TypeError("x"), kind: TypeError },
])("$title", ({ error, kind, code, says = /^/ }) => {
  const known = asKnown(error) as { code?: string; message: string };
  expect(known).toBeInstanceOf(kind);
  if (code !== undefined) expect(known.code).toBe(code);
  expect(known.message).toMatch(says);
});
