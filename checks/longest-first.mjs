/**
 * The order of the test files: those that take longest first, so that no worker is left alone with one in the end. What
 * is not listed takes less than a minute; the larger file comes first.
 */
const longest = [
  "e2e/failover",
  "e2e/outages",
  "e2e/backup",
  "e2e/gateway-delivery",
  "e2e/cli",
  "e2e/start-with-gateway",
  "e2e/gateway",
  "e2e/doctor/doctor",
  "e2e/start",
  "e2e/gateway-vault",
  "e2e/canary",
  "e2e/vault-cost",
  "e2e/chaos/failpoints",
  "e2e/gateway-signing",
  "e2e/evidence",
  "e2e/sync-bidirectional",
  "crds/policies",
  "e2e/chart/chart",
  "e2e/sync-deletion",
  "e2e/secret-apply",
  "e2e/gateway-queue",
  "e2e/key-vault-faults",
  "e2e/secret-rotation",
  "e2e/leadership",
  "e2e/rest-access",
  "e2e/pki-certificates",
  "e2e/chaos/gateway-channel",
  "e2e/gateway-replica",
  "e2e/pki-issuers",
  "core/pki/testing/judges/matrix",
  "e2e/orchestrator",
  "e2e/chaos/certificate-failpoints",
  "lab/lab",
  "e2e/gateway-reconnects",
  "e2e/sync-namespaces",
  "e2e/pki-requests",
  "e2e/ocsp",
  "e2e/upgrade/upgrade",
  "e2e/upgrade/gateways",
  "e2e/gateway-intercepted",
  "e2e/chaos/chaos",
  "e2e/chaos/both-sides",
  "e2e/audit",
  "e2e/migrate",
  "e2e/rest-replicas",
  "adapters/postgres/tampering",
  "crds/admission",
  "e2e/restart",
  "e2e/sync-pull",
  "e2e/existing-cluster",
  "checks/alerts",
  "e2e/key-vaults",
  "e2e/main-job",
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
