/**
 * Two roles of PostgreSQL in turn. The one that is not in use gets the new password, and both change in one version; the one
 * before goes on to log in until it ends. So at no moment a login that was handed out fails.
 */
import { Unavailable, Waiting } from "../../../core/errors.ts";
import type { DatabaseRoles, RoleHolder, RoleLogin, RoleServer } from "../../../core/ports/apply-targets.ts";
import type { SecretRecord } from "../../../core/ports/vault-store.ts";
import { Sensitive } from "../../../core/sensitive.ts";
import { scramVerifier } from "../../../core/vault/scram.ts";
import type { Vault } from "../../../core/vault/vault.ts";
import type { PostgresApplySpec } from "../../../crds/rotation-apply.ts";
import type { KubernetesApi } from "../../runtime/transport.ts";
import {
  type Applier,
  type ApplyContext,
  type ApplyOutcome,
  type EndOutcome,
  type FormerContext,
  outcomeOf,
  type PendingContext,
} from "./applier.ts";
import { referredValue } from "./reference.ts";

export interface PostgresApplierParts {
  readonly api: KubernetesApi;
  readonly vault: Pick<Vault, "open">;
  readonly roles: DatabaseRoles;
  readonly installation: string;
}

const DEFAULT_PORT = 5432;
const DEFAULT_DATABASE = "postgres";
const CHOICE_RECHECK_MS = 30_000;

export class PostgresApplier implements Applier {
  readonly #parts: PostgresApplierParts;
  readonly #spec: PostgresApplySpec;

  constructor(parts: PostgresApplierParts, spec: PostgresApplySpec) {
    this.#parts = parts;
    this.#spec = spec;
  }

  async values(context: ApplyContext, signal: AbortSignal): Promise<ReadonlyMap<string, Sensitive>> {
    const { roles, username } = this.#spec;
    const inUse = await this.#roleInUse(context);
    const isKnown = inUse !== undefined && roles.includes(inUse);
    const next = isKnown ? (roles.find((role) => role !== inUse) ?? "") : await this.#unused(context, signal);
    return new Map([[username, new Sensitive(next)]]);
  }

  /** That no role is on record does not mean that none is in use: the entry had another name, or the secret another identity. */
  async #unused(context: ApplyContext, signal: AbortSignal): Promise<string> {
    const { roles } = this.#spec;
    const admin = await this.#admin(context, signal);
    try {
      const { version: _, ...holder } = this.#holder(context, 0);
      const among = { roles, holder, failed: context.record.rotation?.apply?.failed ?? [] };
      const answer = await this.#parts.roles.unused(this.#server, admin, among, signal);
      if (answer.kind === "Unused") return answer.role;
      const message = `spec.rotation.apply.postgres.roles: ${answer.message}`;
      if (answer.kind === "Unreachable") throw new Unavailable("ApplyFailed", message);
      throw new Waiting("ApplyFailed", message, CHOICE_RECHECK_MS);
    } finally {
      admin.password.dispose();
    }
  }

  async apply(context: PendingContext, signal: AbortSignal): Promise<ApplyOutcome> {
    const { record, pending } = context;
    const { username, password: passwordKey, roles } = this.#spec;
    const inUse = await this.#roleInUse(context);
    const opened = await this.#parts.vault.open(record, {
      version: pending.version,
      keys: [username, passwordKey],
      actor: context.actor,
      purpose: `apply to a role of PostgreSQL at ${this.#spec.host}`,
    });
    const admin = await this.#admin(context, signal).catch((error: unknown) => {
      for (const value of opened.values.values()) value.dispose();
      throw error;
    });
    try {
      const role = opened.values.get(username)?.revealText();
      const password = opened.values.get(passwordKey);
      if (role === undefined || password === undefined || !roles.includes(role) || role === inUse) {
        return { kind: "Failed", message: "spec.rotation.apply.postgres has changed since these values were made" };
      }
      const holder = this.#holder(context, pending.version);
      const change = { role, verifier: await scramVerifier(password), holder };
      const set = await this.#parts.roles.setPassword(this.#server, admin, change, signal);
      if (set.kind !== "Done") return outcomeOf(set, pending.since);
      const entered = await this.#parts.roles.logIn(this.#server, { user: role, password }, signal);
      if (entered.kind !== "Done") return outcomeOf(entered, pending.since);
      return { kind: "Applied", formerRole: inUse };
    } finally {
      admin.password.dispose();
      for (const value of opened.values.values()) value.dispose();
    }
  }

  async end(context: FormerContext, signal: AbortSignal): Promise<EndOutcome> {
    const { record, former } = context;
    const { role } = former;
    // Whoever wrote it into the entry by hand has it in use.
    if (role === undefined || role === (await this.#roleInUse(context))) return { kind: "Done" };
    const admin = await this.#admin(context, signal);
    try {
      const sessions = this.#spec.endSessions === true;
      const change = { role, holder: this.#holder(context, record.currentVersion), sessions };
      return await this.#parts.roles.end(this.#server, admin, change, signal);
    } finally {
      admin.password.dispose();
    }
  }

  get #server(): RoleServer {
    const { host, port = DEFAULT_PORT, database = DEFAULT_DATABASE, caBundle: ca } = this.#spec;
    return { host, port, database, ca };
  }

  #holder({ secret, record }: ApplyContext, version: number): RoleHolder {
    const { namespace = "", name } = secret.metadata;
    return { installation: this.#parts.installation, namespace, name, id: record.id, version };
  }

  async #admin({ secret }: ApplyContext, signal: AbortSignal): Promise<RoleLogin> {
    const { username: user, passwordSecretRef: ref } = this.#spec.admin;
    const { namespace = "" } = secret.metadata;
    const field = "postgres.admin.passwordSecretRef";
    const stored = await referredValue(this.#parts.api, field, { namespace, ...ref }, signal);
    try {
      // Of a file that was made by hand: no password ends in a line end.
      return { user, password: new Sensitive(stored.revealText().replace(/\r?\n$/, "")) };
    } finally {
      stored.dispose();
    }
  }

  /** Undefined before the first one. */
  async #roleInUse({ record, actor }: ApplyContext): Promise<string | undefined> {
    const { username } = this.#spec;
    if (!hasEntry(record, username)) return undefined;
    const purpose = "tell which role of PostgreSQL is in use";
    const { values } = await this.#parts.vault.open(record, { keys: [username], actor, purpose });
    return values.get(username)?.revealText();
  }
}

const hasEntry = ({ entries }: SecretRecord, name: string): boolean => entries.some(({ key }) => key === name);
