/**
 * The order of the test files: those that take longest first, so that no worker is left alone with one in the end. What
 * is not listed takes less than a minute; the larger file comes first.
 */
const longest = [
  "e2e/failover",
  "e2e/outages",
  "e2e/start",
  "e2e/start-with-gateway",
  "e2e/gateway-vault",
  "e2e/gateway",
  "e2e/gateway-delivery",
  "e2e/doctor/doctor",
  "e2e/pki-certificates",
  "e2e/chaos/failpoints",
  "e2e/leadership",
  "e2e/secret-rotation",
  "e2e/secret-apply",
  "e2e/ocsp",
  "e2e/rest-replicas",
  "e2e/cli",
  "e2e/canary",
  "e2e/vault-cost",
  "e2e/key-vault-faults",
  "e2e/chaos/certificate-failpoints",
  "e2e/rest-access",
  "e2e/pki-issuers",
  "e2e/pki-requests",
  "e2e/gateway-intercepted",
  "e2e/gateway-reconnects",
  "e2e/gateway-replica",
  "e2e/gateway-queue",
  "e2e/gateway-signing",
  "e2e/chaos/gateway-channel",
  "core/pki/testing/judges/matrix",
  "lab/lab",
  "e2e/restart",
  "e2e/chaos/chaos",
  "e2e/migrate",
  "e2e/sync-bidirectional",
  "e2e/chaos/both-sides",
  "e2e/sync-deletion",
  "e2e/rights",
  "e2e/refusals",
  "e2e/pki-offline-root",
  "e2e/audit",
  "crds/admission",
];

export default class LongestFirst {
  sort(tests) {
    const bySize = tests.toSorted((one, other) => sizeOf(other) - sizeOf(one));
    return bySize.toSorted((one, other) => rankOf(one) - rankOf(other));
  }

  shard(tests) {
    return tests;
  }

  allFailedTests(tests) {
    return tests;
  }

  cacheResults() {}
}

const sizeOf = ({ path, context }) => context.hasteFS.getSize(path) ?? 0;

function rankOf({ path }) {
  const rank = longest.findIndex((file) => path.endsWith(`/${file}.test.ts`));
  if (rank >= 0) return rank;
  return longest.length + (path.includes("/e2e/") ? 0 : 1);
}
