/**
 * Faults planted one after the other, each on the real part: `mazevault doctor`, as it ships, names each of them with what
 * to do, and is content again when it is mended. They are in `faults/`, by what they break; all of them share one lab.
 */
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { betweenHereAndTheServer } from "./faults/connection.ts";
import { inTheDatabase } from "./faults/database.ts";
import { inFiles } from "./faults/files.ts";
import { inWhatEverythingStandsOn } from "./faults/foundations.ts";
import { inAKeyVault } from "./faults/key-vault.ts";
import { inKubernetes } from "./faults/kubernetes.ts";
import { ofTheMachine } from "./faults/machine.ts";
import { inThePki } from "./faults/pki.ts";
import { ofResources } from "./faults/resources.ts";
import { Installation } from "./installation.ts";
import { supportBundle } from "./support-bundle.ts";

const on = new Installation();

beforeAll(() => on.start());
afterAll(() => on.stop());

test("where nothing is wrong it says so, and looks at everything", async () => {
  await on.content();
  const { code, findings } = await on.doctor();
  expect(code).toBe(0);
  expect(findings.map(({ check }) => check)).toEqual([
    "connection",
    "clock",
    "version",
    "database",
    "caches",
    "credentials",
    "keys.root",
    "kubernetes",
    "kubernetes.definitions",
    "kubernetes.rights",
    "leadership",
    "certificates",
    "disk",
    "process.coreDumps",
    "pki.authorities",
    "pki.crls",
    "ocsp.answers",
    "keyvault.calls",
    "keyvault.credentials",
    "resources",
  ]);
  expect(await on.doctor(on.onlyCluster())).toEqual({
    code: 0,
    findings: [
      { check: "kubernetes", status: "ok" },
      { check: "kubernetes.definitions", status: "ok" },
      { check: "kubernetes.rights", status: "ok" },
      { check: "leadership", status: "ok" },
      { check: "pods", status: "ok" },
      { check: "resources", status: "ok" },
    ],
  });
});

test("a person gets a table, and each problem with its fix", async () => {
  const { stdout } = await new Promise<{ stdout: string }>((resolve) => {
    const args = [on.world.mazevault.cli, "doctor", "--server", "https://127.0.0.1:1"];
    execFile(process.execPath, args, { env: on.env }, (_error, out) => resolve({ stdout: out }));
  });
  expect(stdout).toMatch(
    /^CHECK +STATUS +SUBJECT\nconnection +failing\n\nFAILING connection\n {2}PROBLEM {2}\S.*nothing listens there\n {2}FIX {6}look at --server/,
  );
});

test("what is no namespace is refused", async () => {
  const { code, stderr } = await new Promise<{ code: number; stderr: string }>((resolve) => {
    const args = [on.world.mazevault.cli, "doctor", "--kubeconfig", "--operator-namespace", "not/one"];
    execFile(process.execPath, args, { env: on.env }, (error, _stdout, err) =>
      resolve({ code: Number(error?.code), stderr: err }),
    );
  });
  expect({ code, stderr }).toEqual({
    code: 2,
    stderr:
      "mazevault: not/one is no name of a namespace; correct --operator-namespace NAMESPACE or MAZEVAULT_OPERATOR_NAMESPACE\n",
  });
});

betweenHereAndTheServer(on);
inTheDatabase(on);
inKubernetes(on);
inFiles(on);
ofTheMachine(on);
inThePki(on);
ofResources(on);
inAKeyVault(on);
inWhatEverythingStandsOn(on);
supportBundle(on);

test("what keeps keys in memory leaves no core dump", () => {
  for (const { pid } of [on.operator.process, on.surface.process, on.responder.process]) {
    const limits = readFileSync(`/proc/${pid}/limits`, "utf8");
    expect(limits).toMatch(/^Max core file size +0 +0 /m);
  }
});
