import { CrlPublication } from "../../core/pki/crl-publication.ts";
import { ResponderCertificates } from "../../core/pki/responder-certificates.ts";
import { TestPki } from "../../core/pki/testing/installation.ts";
import type { OcspStore } from "../../core/ports/ocsp-store.ts";
import { createLogger } from "../../program/logging.ts";
import { Answers } from "../answers.ts";
import { Documents } from "../documents.ts";
import { Register } from "../register.ts";
import { ResponderKeys } from "../responder-keys.ts";
import { OcspServer, type OcspServerParts } from "../server.ts";
import { Synchronisation } from "../synchronisation.ts";
import { newTraffic } from "../traffic.ts";

/** A responder beside authorities on the same stores in memory, with their clock. */
export class TestResponder {
  readonly pki: TestPki;
  readonly register = new Register();
  readonly documents = new Documents();
  readonly traffic = newTraffic();
  readonly synchronisation: Synchronisation;
  readonly answers: Answers;
  readonly responders: ResponderCertificates;
  readonly crls: CrlPublication;
  /** Codes of what was found in answers. */
  readonly faults: string[] = [];
  /** Set: the database is away. */
  failure: Error | undefined;
  readonly #servers: OcspServer[] = [];

  private constructor(pki: TestPki) {
    this.pki = pki;
    const { store, authorities, urls } = pki;
    const now = () => pki.now;
    this.responders = new ResponderCertificates({ store, authorities, now });
    this.crls = new CrlPublication({ store, authorities, urls, now });
    const { register, documents } = this;
    const log = createLogger({ level: "silent" });
    const reachable = this.#reachable(store);
    const keys = new ResponderKeys({ store: reachable, log, now: this.#now });
    this.synchronisation = new Synchronisation({
      store: reachable,
      register,
      documents,
      keys,
      log,
      now: this.#now,
      apartMs: 1,
    });
    this.answers = new Answers({
      register,
      caughtUp: () => this.synchronisation.caughtUp(),
      onSigned: () => {
        this.traffic.signatures += 1;
      },
      onFaulty: (faults) => this.faults.push(...faults.map(({ code }) => code)),
      now: this.#now,
    });
  }

  static async start(): Promise<TestResponder> {
    const responder = new TestResponder(await TestPki.start());
    responder.synchronisation.start();
    return responder;
  }

  readonly #now = (): number => this.pki.now.getTime();

  /** Until everything is known that was committed before, and every CA that can has signed this responder's key. */
  async caughtUp(): Promise<void> {
    await this.synchronisation.caughtUp();
    // The first asks, the second takes up what was signed.
    for (let round = 0; round < 2; round += 1) {
      await this.synchronisation.caughtUp();
      await this.responders.sign(this.pki.writer);
      await this.crls.publishDue(this.pki.writer, 10);
    }
    await this.synchronisation.caughtUp();
    await this.synchronisation.caughtUp();
  }

  /** Serves; resolves with the URL. */
  async serve(settings: Partial<OcspServerParts> = {}): Promise<string> {
    const server = new OcspServer({
      host: "127.0.0.1",
      port: 0,
      maxConnections: 100,
      maxAgeMs: 3_600_000,
      answers: this.answers,
      documents: this.documents,
      traffic: this.traffic,
      onError: (error) => {
        throw error;
      },
      now: this.#now,
      ...settings,
    });
    this.#servers.push(server);
    return `${settings.tls ? "https" : "http"}://127.0.0.1:${await server.listen()}`;
  }

  async stop(): Promise<void> {
    await this.synchronisation.stop();
    for (const server of this.#servers) await server.close();
  }

  #reachable(store: OcspStore): OcspStore {
    const reached =
      <Arguments extends unknown[], Result>(call: (...given: Arguments) => Promise<Result>) =>
      async (...given: Arguments): Promise<Result> => {
        if (this.failure !== undefined) throw this.failure;
        return call(...given);
      };
    return {
      authorities: reached(() => store.authorities()),
      changes: reached((after, limit) => store.changes(after, limit)),
      crls: reached(() => store.crls()),
      crl: reached((key) => store.crl(key)),
      requestResponder: reached((request) => store.requestResponder(request)),
      responder: reached((id) => store.responder(id)),
    };
  }
}
