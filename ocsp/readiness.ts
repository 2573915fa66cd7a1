import type { HealthCheck } from "../program/health.ts";
import type { Register } from "./register.ts";

/**
 * Ready: the database was read, and once somebody could sign. Only once, since a CA that cannot certify its responder must not
 * take the others from their clients.
 */
export function readiness(register: Pick<Register, "syncedAt" | "authorities">): readonly HealthCheck[] {
  let signed = false;
  return [
    { name: "database", check: () => (register.syncedAt === undefined ? "it has not been read yet" : undefined) },
    {
      name: "responder certificates",
      check: () => {
        if (register.syncedAt === undefined) return "not known yet";
        const authorities = [...register.authorities];
        signed ||= authorities.length === 0 || authorities.some(({ responder }) => responder !== undefined);
        return signed ? undefined : "none was signed yet";
      },
    },
  ];
}
