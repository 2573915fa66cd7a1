/** One version of a secret. Times are whole seconds since 1970, as on the wire. */
export interface SecretVersion {
  readonly version: string;
  readonly value: string;
  readonly contentType?: string;
  readonly tags?: Readonly<Record<string, string>>;
  readonly enabled: boolean;
  /** Belongs to a certificate: only the certificate's operations change it. */
  readonly managed?: boolean;
  readonly nbf?: number;
  readonly exp?: number;
  readonly created: number;
  readonly updated: number;
}

/** `until` is in milliseconds of the wall clock: the service's own work outlives a restart. */
export type Phase =
  | { readonly kind: "active" }
  | { readonly kind: "deleted"; readonly since: number; readonly until: number; readonly purgeAt: number }
  | { readonly kind: "recovering"; readonly visibleAt: number; readonly until: number }
  | { readonly kind: "purging"; readonly until: number };

export interface Secret {
  readonly name: string;
  /** Oldest first; the last one is current. */
  readonly versions: readonly SecretVersion[];
  readonly phase: Phase;
}

/** What happened to one vault: the journal's records, from which its content is rebuilt. */
export type VaultEvent =
  | { readonly type: "version"; readonly name: string; readonly version: SecretVersion }
  | { readonly type: "update"; readonly name: string; readonly version: SecretVersion }
  | { readonly type: "phase"; readonly name: string; readonly phase: Phase }
  | { readonly type: "gone"; readonly name: string }
  | { readonly type: "secret"; readonly secret: Secret };

/** Secrets by the lower-case name: names are case-insensitive, the first spelling is kept. */
export type VaultState = Map<string, Secret>;

const ACTIVE: Phase = { kind: "active" };

export function apply(state: VaultState, event: VaultEvent): void {
  const key = (event.type === "secret" ? event.secret.name : event.name).toLowerCase();
  const secret = state.get(key);
  switch (event.type) {
    case "secret":
      state.set(key, event.secret);
      break;
    case "gone":
      state.delete(key);
      break;
    case "version":
      state.set(key, {
        name: secret?.name ?? event.name,
        versions: [...(secret?.versions ?? []), event.version],
        phase: ACTIVE,
      });
      break;
    case "update":
      if (secret !== undefined) {
        const versions = secret.versions.map((each) => (each.version === event.version.version ? event.version : each));
        state.set(key, { ...secret, versions });
      }
      break;
    case "phase":
      if (secret !== undefined) {
        state.set(key, { ...secret, phase: event.phase });
      }
      break;
  }
}
