/** A primary and its gateways in one process, with what they say to each other as JSON: tasks from who makes them to who performs them. */
import { createSecretKey, randomBytes } from "node:crypto";
import type { z } from "zod";
import { Unavailable } from "../../errors.ts";
import { FakeDatabase } from "../../ports/fake-database.ts";
import { FakeFleetStore } from "../../ports/fake-fleet-store.ts";
import { FakePkiStore } from "../../ports/fake-pki-store.ts";
import { FakeTaskStore } from "../../ports/fake-task-store.ts";
import type { ChannelAnswer } from "../../ports/primary-channel.ts";
import type { AskOptions, PrimaryLink } from "../../ports/primary-link.ts";
import { registerGateway } from "../../ports/task-store.contract.ts";
import { ActingLease } from "../acting-lease.ts";
import type { Member } from "../member.ts";
import { LEASE_MS, type Standing } from "../standing.ts";
import { TaskExchange, type TaskExchangeParts, type TaskStatus } from "../task-exchange.ts";
import { standingPoll, TASK_ROUTES, taskPoll, taskResults } from "../task-protocol.ts";
import { TaskRunner } from "../task-runner.ts";
import type { TaskHandler, TaskKind } from "../tasks.ts";

export const NPR_GATEWAY = "gw-npr-primary";
export const NPR_STANDBY = "gw-npr-dr";
export const PRO_GATEWAY = "gw-pro-primary";

const QUICK_MS = 100;

/** Pauses between requests take no time; whatever is waited for takes what it takes. */
const sleep = (ms: number, signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, ms <= QUICK_MS ? 0 : ms);
    signal.addEventListener("abort", end, { once: true });
    if (signal.aborted) end();
  });

export class TestGateway implements PrimaryLink {
  readonly member: Member;
  readonly lease: ActingLease;
  readonly #world: TaskWorld;
  readonly #abort = new AbortController();
  #running: Promise<void> = Promise.resolve();
  /** Paths of what was asked, in their order. */
  readonly asked: string[] = [];
  /** Told of each request: "lost" after the primary has acted, or before it has heard. */
  disturb: (path: string) => "unheard" | "unanswered" | undefined = () => undefined;
  /** Told of each body; what it returns is the status of the answer. */
  refuse: (path: string, body: unknown) => number | undefined = () => undefined;
  /** Added to its clock, as when the process stood still. */
  asleepMs = 0;

  constructor(world: TaskWorld, member: Member) {
    this.#world = world;
    this.member = member;
    this.lease = new ActingLease(() => performance.now() + this.asleepMs);
  }

  start(...handlers: readonly TaskHandler[]): void {
    const log = { debug: () => {}, warn: () => {} };
    const runner = new TaskRunner({ link: this, lease: this.lease, handlers, sleep, log });
    this.#running = runner.run(this.#abort.signal);
  }

  /** As an answer of the primary does that it asked for now; the deadlines of tasks stay. */
  renew(): void {
    this.lease.take({ active: true, environmentEpoch: "1", leaseMs: 60_000 }, this.lease.now());
  }

  async stop(): Promise<void> {
    this.#abort.abort();
    await this.#running;
  }

  async ask(path: string, body: unknown, { signal }: AskOptions): Promise<ChannelAnswer> {
    this.asked.push(path);
    const disturbance = this.disturb(path);
    if (disturbance === "unheard") throw lost();
    const refused = this.refuse(path, body);
    if (refused !== undefined) return { status: refused, body: {} };
    const answer = await this.#world.answer(this.member, path, body, signal);
    if (disturbance === "unanswered") throw lost();
    signal.throwIfAborted();
    return { status: 200, body: JSON.parse(JSON.stringify(answer)) };
  }
}

const lost = (): Unavailable => new Unavailable("PrimaryUnreachable", "no answer");

export class TaskWorld {
  readonly keys = { installationId: "installation", tasks: createSecretKey(randomBytes(32)) };
  readonly fleet: FakeFleetStore;
  readonly store: FakeTaskStore;
  readonly exchange: TaskExchange;
  readonly ended: { readonly environment: string; readonly status: TaskStatus }[] = [];
  readonly problems: unknown[] = [];
  /** By name; without one a gateway is not active. */
  readonly standings = new Map<string, Omit<Standing, "leaseMs"> & Partial<Pick<Standing, "leaseMs">>>();
  readonly #gateways: TestGateway[] = [];

  constructor(change: Partial<TaskExchangeParts> = {}) {
    const database = new FakeDatabase();
    this.fleet = new FakeFleetStore(database, new FakePkiStore(database));
    this.store = new FakeTaskStore(this.fleet, (says) => this.exchange.hint(says));
    this.exchange = new TaskExchange({
      store: this.store,
      fleet: this.fleet,
      keys: this.keys,
      standing: async ({ name }) => {
        const inactive = { active: false, environmentEpoch: 1n, actsFor: [] };
        return { leaseMs: LEASE_MS, ...(this.standings.get(name) ?? inactive) };
      },
      onEnded: ({ environment, status }) => void this.ended.push({ environment, status }),
      onProblem: (error) => void this.problems.push(error),
      lookEveryMs: 50,
      ...change,
    });
  }

  /** In charge of its own tasks, where it is the primary one of its pair. */
  async gateway(name: string, environment: string, role: Member["role"] = "primary"): Promise<TestGateway> {
    const gatewayId = await registerGateway(this.fleet, name, { environment, role });
    if (role === "primary") this.activate(name, 1n);
    const gateway = new TestGateway(this, { gatewayId, name, environment, role, serialNumber: "01" });
    this.#gateways.push(gateway);
    return gateway;
  }

  activate(name: string, environmentEpoch: bigint, actsFor: readonly string[] = [name]): void {
    this.standings.set(name, { active: true, environmentEpoch, actsFor });
    this.exchange.hint("standing");
  }

  async answer(member: Member, path: string, body: unknown, signal: AbortSignal): Promise<unknown> {
    const judged = <T>(schema: z.ZodType<T>): T => schema.parse(JSON.parse(JSON.stringify(body)));
    switch (path) {
      case TASK_ROUTES.standing:
        return this.exchange.awaitStanding(member, judged(standingPoll), signal);
      case TASK_ROUTES.tasks:
        return this.exchange.poll(member, judged(taskPoll), signal);
      case TASK_ROUTES.results:
        return this.exchange.finish(member, judged(taskResults).results);
      default:
        throw new TypeError(`${path} is no route`);
    }
  }

  perform<Body, Result>(
    kind: TaskKind<Body, Result>,
    body: Body,
    {
      gateway = NPR_GATEWAY,
      environments = ["NPR"],
      ...change
    }: { gateway?: string; environments?: readonly string[]; withinMs?: number; signal?: AbortSignal } = {},
  ): Promise<Result> {
    return this.exchange.perform(gateway, kind, body, {
      signal: new AbortController().signal,
      environments,
      ...change,
    });
  }

  async stop(): Promise<void> {
    await Promise.all(this.#gateways.map((gateway) => gateway.stop()));
  }
}
