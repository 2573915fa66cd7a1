import { rateCountersContract } from "../../core/ports/rate-counter.contract.ts";
import { memoryRateCounters } from "./rate-counters.ts";

describe("memoryRateCounters", () => rateCountersContract(async () => memoryRateCounters));
