/** What stands in files where the operator runs: certificates, room on disk, and whether it may leave its memory there. */
import { X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import { readFile, statfs } from "node:fs/promises";
import { type Check, type Finding, failing, warning } from "../../core/diagnosis/finding.ts";
import { judgeValidity, type Validity } from "../../core/diagnosis/validity.ts";
import type { Config } from "../config.ts";

const CERTIFICATES = "certificates";
const LEAST_FREE = 0.05;
const PEM = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g;

export const fileChecks = (config: Config): readonly Check[] => [
  {
    name: CERTIFICATES,
    otherwise:
      "look at the files that the settings name: rest.certFile, rest.clientCaFile, database.caFile, azure.caFile",
    examine: async () => certificateFiles(config).flatMap(judgeFile),
  },
  {
    name: "disk",
    otherwise: "look at the volume of audit.fileDirectory",
    examine: () => judgeDisk(config.audit.fileDirectory),
  },
  { name: "process.coreDumps", otherwise: "cat /proc/1/limits in the container", examine: judgeCoreDumps },
];

interface CertificateFile {
  readonly setting: string;
  readonly file: string;
  readonly fix: string;
}

function certificateFiles({ rest, database, azure }: Config): readonly CertificateFile[] {
  const files: readonly (readonly [setting: string, file: string | undefined, fix: string])[] = [
    ["rest.certFile", rest.certFile, "write a renewed certificate there with its key; it is taken up within 10 s"],
    ["rest.clientCaFile", rest.clientCaFile, "write the renewed CA certificate there; it is taken up within 10 s"],
    ["database.caFile", database.caFile, "write the renewed CA certificate of PostgreSQL there"],
    ["azure.caFile", azure.caFile, "write the renewed CA certificate there, then restart the operator"],
  ];
  return files.flatMap(([setting, file, fix]) =>
    file === undefined ? [] : [{ setting, file, fix: `${file}: ${fix}` }],
  );
}

function judgeFile({ setting, file, fix }: CertificateFile): readonly Finding[] {
  let certificates: readonly Validity[];
  try {
    certificates = validities(readFileSync(file, "utf8"));
  } catch (error) {
    const why = (error as NodeJS.ErrnoException).code ?? "it holds no certificate";
    return [failing(CERTIFICATES, { problem: `${setting}: ${file} cannot be read (${why})`, fix })];
  }
  return certificates.flatMap((each) =>
    judgeValidity(CERTIFICATES, `a certificate of ${setting}`, each, new Date(), fix),
  );
}

/** Of each certificate in a PEM. @throws where one is damaged */
export const validities = (pem: string): readonly Validity[] =>
  [...pem.matchAll(PEM)].map(([block]) => {
    const { validFromDate: notBefore, validToDate: notAfter } = new X509Certificate(block);
    return { notBefore, notAfter };
  });

async function judgeDisk(directory: string | undefined): Promise<readonly Finding[]> {
  if (directory === undefined) return [];
  const { bavail, blocks, bsize } = await statfs(directory);
  if (blocks === 0 || bavail / blocks >= LEAST_FREE) return [];
  const problem = `${Math.round((bavail * bsize) / 2 ** 20)} MiB are left of the volume of audit.fileDirectory, ${directory}`;
  return [warning("disk", { problem, fix: "make it larger, or rotate the files of the audit sinks" })];
}

/** A core dump holds every key and value that was in memory. */
async function judgeCoreDumps(): Promise<readonly Finding[]> {
  const limits = await readFile("/proc/self/limits", "utf8").catch(() => "");
  const [, soft = "0"] = /^Max core file size\s+(\S+)/m.exec(limits) ?? [];
  if (soft === "0") return [];
  const problem = `core dumps are on (limit ${soft}): one holds every key and value that is in memory`;
  return [
    warning("process.coreDumps", {
      problem,
      fix: "start the program by `ulimit -c 0; exec node operator.mjs`, as the lab does, or set the container's ulimit core to 0",
    }),
  ];
}
