/**
 * What new values are applied to before they are current. Outside of PostgreSQL nothing can be fenced by the leader's epoch,
 * so each effect says which version it is for, and what has seen a later one refuses it.
 */
import type { Sensitive } from "../sensitive.ts";

/** Messages are safe to show. */
export type ApplyAnswer =
  | { readonly kind: "Done" }
  /** Waiting cannot help. */
  | { readonly kind: "Refused"; readonly message: string }
  | { readonly kind: "Unreachable"; readonly message: string };

export type RefusedAnswer = Exclude<ApplyAnswer, { readonly kind: "Done" }>;

/** How to reach a server of PostgreSQL as somebody who may set passwords. TLS, its name verified. */
export interface RoleServer {
  readonly host: string;
  readonly port: number;
  readonly database: string;
  /** PEM; the system's authorities when absent. */
  readonly ca?: string | undefined;
}

export interface RoleLogin {
  readonly user: string;
  readonly password: Sensitive;
}

/** For whom a role's password is set; noted beside the role. */
export interface RoleHolder {
  readonly installation: string;
  readonly namespace: string;
  readonly name: string;
  /** Of the secret. */
  readonly id: string;
  /** Of the version that the password is in, or that is current when the role ends. */
  readonly version: number;
}

/** Roles of a database server that log in by password. */
export interface DatabaseRoles {
  /**
   * The one of the roles that nobody logs in as by a password handed out before, as far as the server tells: for who does not
   * know which is in use. Refused when there is none.
   */
  unused(
    server: RoleServer,
    admin: RoleLogin,
    among: {
      readonly roles: readonly string[];
      readonly holder: Omit<RoleHolder, "version">;
      /** Versions of the holder that never were current: their passwords were handed to nobody. */
      readonly failed: readonly number[];
    },
    signal: AbortSignal,
  ): Promise<{ readonly kind: "Unused"; readonly role: string } | RefusedAnswer>;
  /**
   * Lets the role log in by the password that the verifier (SCRAM-SHA-256) is of; done already when it was set for this
   * version. Refused when it was set for a later one, or for another secret.
   */
  setPassword(
    server: RoleServer,
    admin: RoleLogin,
    change: { readonly role: string; readonly verifier: string; readonly holder: RoleHolder },
    signal: AbortSignal,
  ): Promise<ApplyAnswer>;
  /** Whether the role can log in by that password. */
  logIn(server: RoleServer, login: RoleLogin, signal: AbortSignal): Promise<ApplyAnswer>;
  /** The role logs in no more, unless its password was set for a later version; done already when it is gone. */
  end(
    server: RoleServer,
    admin: RoleLogin,
    change: { readonly role: string; readonly holder: RoleHolder; readonly sessions: boolean },
    signal: AbortSignal,
  ): Promise<ApplyAnswer>;
}

export interface RotationMessage {
  /** The same for each attempt at the same version: who has seen it need not act again. */
  readonly id: string;
  readonly body: string;
}

export interface WebhookTarget {
  readonly url: string;
  readonly ca?: string | undefined;
  readonly hmacKey: Sensitive;
}

export interface RotationWebhook {
  send(target: WebhookTarget, message: RotationMessage, signal: AbortSignal): Promise<ApplyAnswer>;
}
