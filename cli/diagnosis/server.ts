/** From here to the server, and what the server says of itself: each step only when the one before it worked. */
import { judgeClock } from "../../core/diagnosis/clock.ts";
import { type Finding, failing, fine, warning } from "../../core/diagnosis/finding.ts";
import { VERSION } from "../../program/version.ts";
import { type Client, parsed, type Received } from "../client.ts";
import { CommandError, EXIT } from "../errors.ts";
import type { Settings } from "../settings.ts";

interface Health {
  readonly version?: string;
  readonly checks?: readonly { readonly name: string; readonly problem?: string; readonly fix?: string }[];
}

/** Longer than the server takes for all of its checks. */
const TIMEOUT_MS = 10_000;

export async function examineServer(client: Client, settings: Settings): Promise<readonly Finding[]> {
  let answer: Received;
  let health: Health;
  const asked = new Date();
  try {
    answer = await client.send("GET", "/api/v1/health", { anonymous: true, accepts: [503], timeoutMs: TIMEOUT_MS });
    health = parsed<Health>(answer);
  } catch (error) {
    return [told("connection", error)];
  }
  const reading = { asked, answered: new Date(), theirs: new Date(String(answer.headers.date)) };
  const parts = (health.checks ?? []).map(({ name, problem, fix = "look at the server's log" }) =>
    problem === undefined ? fine(name) : failing(name, { problem, fix }),
  );
  const before = [
    fine("connection"),
    ...orFine("clock", judgeClock("clock", "this clock", "the server's", reading)),
    ...orFine("version", judgeVersion(health.version ?? "")),
    ...parts,
  ];
  // While it lacks what it needs it can judge no credentials.
  if (parts.some(({ status }) => status === "failing")) return before;
  const credentials = await judgeCredentials(client, settings);
  if (credentials.length > 0) return [...before, ...credentials];
  return [
    ...before,
    fine("credentials"),
    ...(await diagnosed(
      client,
      parts.map(({ check }) => check),
    )),
  ];
}

const orFine = (check: string, findings: readonly Finding[]): readonly Finding[] =>
  findings.length === 0 ? [fine(check)] : findings;

/** What a command would have said. */
function told(check: string, error: unknown, fix = "look at the server's log"): Finding {
  if (error instanceof CommandError) return failing(check, { problem: error.problem, fix: error.fix ?? fix });
  throw error;
}

function judgeVersion(server: string): readonly Finding[] {
  const order = compared(VERSION, server);
  if (order === 0) return [];
  const problem = `this program is ${VERSION}, ${order < 0 ? "older" : "newer"} than the server, which is ${server}`;
  if (order > 0) return [warning("version", { problem, fix: `update the operator, or use ${server} of this program` })];
  return [failing("version", { problem, fix: `install ${server} of this program` })];
}

/** Below 0 when `a` is older than `b`; versions are three numbers (semver.org). */
function compared(a: string, b: string): number {
  const [left, right] = [a, b].map((version) => version.split(/[.-]/).map(Number)) as [number[], number[]];
  const at = left.findIndex((part, index) => part !== right[index]);
  return at < 0 ? 0 : (left[at] ?? 0) - (right[at] ?? 0);
}

async function judgeCredentials(client: Client, settings: Settings): Promise<readonly Finding[]> {
  try {
    await client.send("GET", "/api/v1/auth/me", { timeoutMs: TIMEOUT_MS });
    return [];
  } catch (error) {
    const refused = error instanceof CommandError && error.exitCode === EXIT.unauthenticated;
    const why = refused ? whyRefused(settings) : undefined;
    return [why === undefined ? told("credentials", error) : failing("credentials", why)];
  }
}

/** The server says the same to everybody; what can be told here is told by the credentials themselves. */
function whyRefused({ token, tokenIsGiven, server }: Settings): { problem: string; fix: string } | undefined {
  if (token === undefined) return undefined;
  const from = tokenIsGiven ? "MAZEVAULT_TOKEN" : "the login that is remembered";
  const login = `${tokenIsGiven ? "unset MAZEVAULT_TOKEN, then " : ""}mazevault login --server ${server} --email YOU`;
  if (token.startsWith("mvk_")) {
    const problem = `${from} holds an API key that is not accepted: it was revoked, has ended, or its owner is disabled`;
    return {
      problem,
      fix: `MAZEVAULT_TOKEN must be a valid API key: make a new one (POST /api/v1/api-keys), or ${login}`,
    };
  }
  const end = endOf(token);
  if (end === undefined) return { problem: `${from} holds no token and no API key`, fix: login };
  if (end < new Date())
    return { problem: `${from} holds a token that has expired at ${end.toISOString()}`, fix: login };
  const problem = `${from} holds a token that is not accepted: its session was ended, or it is not of this installation`;
  return { problem, fix: login };
}

/** As the claim `exp` says (RFC 7519, section 4.1.4), which is not to be trusted and need not be. */
function endOf(token: string): Date | undefined {
  try {
    const { exp } = JSON.parse(Buffer.from(token.split(".")[1] ?? "", "base64url").toString("utf8")) as {
      exp?: unknown;
    };
    return typeof exp === "number" ? new Date(exp * 1000) : undefined;
  } catch {
    return undefined;
  }
}

/** What health has told in short is not told again as being well. */
async function diagnosed(client: Client, known: readonly string[]): Promise<readonly Finding[]> {
  try {
    const answer = await client.send("GET", "/api/v1/diagnostics", { timeoutMs: TIMEOUT_MS });
    const { findings } = parsed<{ findings: Finding[] }>(answer);
    return findings.filter(({ check, status }) => status !== "ok" || !known.includes(check));
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    const { exitCode, problem } = error;
    if (exitCode === EXIT.denied) {
      const fix = "run it as a user with role admin or auditor";
      return [warning("diagnostics", { problem: "you may not see what the server finds of itself", fix })];
    }
    return [failing("diagnostics", { problem, fix: error.fix ?? "look at the server's log" })];
  }
}
