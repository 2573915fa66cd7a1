/** What the guide says about gateways: how they stand, an outage of the primary, a failover. The commands are meant in their order. */
import type { GatewayLab } from "./gateway.ts";
import type { GuideCommand, GuideSection } from "./guide.ts";

/** For the line that sets the environment. */
export function gatewayVariables(gateways: readonly Pick<GatewayLab, "role" | "lab" | "operator">[]) {
  return Object.fromEntries(
    gateways.flatMap(({ role, lab, operator }) => {
      const name = role === "primary" ? "GATEWAY" : "DR_GATEWAY";
      return [
        [`${name}_URL`, operator.restUrl],
        [`${name}_CA_FILE`, lab.pki.caFile],
        [`${name}_KUBECONFIG`, lab.controlPlane.kubeconfigPath],
      ];
    }),
  );
}

/** `labDir`: where the lab's data is, unless it is where the programs look by themselves. */
export function gatewayCommands(labDir?: string): readonly GuideSection[] {
  const part = (action: string): string =>
    `npm run --silent part -- ${labDir === undefined ? "" : `--dir "${labDir}" `}${action}`;
  return [
    { title: "Two gateways of NPR, each with a cluster and a database of its own", commands: gatewayHealthCommands },
    { title: "Secrets at the gateway", commands: replicaCommands },
    { title: "An outage of the primary", commands: outageCommands(part) },
    { title: "A failover", commands: failoverCommands(part) },
  ];
}

type Part = (action: string) => string;

const health = `curl -s --cacert "$GATEWAY_CA_FILE" "$GATEWAY_URL/api/v1/health"`;
/** It asks again within half a minute. */
const untilOpen = `until ${health} | grep -o '"channel":{"state":"Open"'; do sleep 1; done`;

const gatewayHealthCommands: readonly GuideCommand[] = [
  { command: "kubectl get gateways.mazevault.io", gives: "both, CONNECTED True" },
  { command: "mazevault gateways list", gives: "the same by REST" },
  { command: `${health}; echo`, gives: "what the gateway itself says, also of its channel to the primary" },
  {
    command: 'kubectl --kubeconfig "$GATEWAY_KUBECONFIG" get namespaces',
    gives: "its cluster, which is another one",
  },
];

const VALUES = "/api/v1/namespaces/booking/secrets/airline/values";
const atGateway = `curl -s --cacert "$GATEWAY_CA_FILE" -H "Authorization: Bearer $(kubectl --kubeconfig "$GATEWAY_KUBECONFIG" -n booking create token app --audience=mazevault)"`;
const read = `${atGateway} "$GATEWAY_URL${VALUES}"`;

const replicaCommands: readonly GuideCommand[] = [
  {
    command: "kubectl apply -f e2e/samples/gateways",
    gives: "the pair of NPR, and a tenant whose dev environment gateways of NPR serve",
  },
  {
    command:
      'kubectl --kubeconfig "$GATEWAY_KUBECONFIG" create namespace booking; kubectl --kubeconfig "$GATEWAY_KUBECONFIG" -n booking create serviceaccount app',
    gives: "an application in the cluster of the gateway, which the tenant's AccessPolicy names",
  },
  {
    command: "echo written-at-the-primary | mazevault put booking/airline token=-",
    gives: "a value, set at the primary",
  },
  {
    command: `until ${read} | grep written-at-the-primary; do sleep 1; done`,
    gives: "read at the gateway, at the same path, with the application's own token",
  },
];

const outageCommands = (part: Part): readonly GuideCommand[] => [
  { command: part("stop primary"), gives: "the primary's operator and REST are away, until they are started again" },
  { command: `${health}; echo`, gives: "the gateway answers all the same, and says that its primary does not" },
  { command: `${read}; echo`, gives: "the value, which the gateway holds" },
  {
    command: `${atGateway} -X PUT "$GATEWAY_URL${VALUES}" -H "Content-Type: application/json" -d '{"values":{"token":"written-at-the-gateway"}}' -w '%{http_code}'; echo`,
    gives: "202: it is kept, and sent to the primary as soon as that is back",
  },
  { command: part("start primary"), gives: "the primary is back; its gateways come back by themselves" },
  { command: untilOpen, gives: "its channel is open again, without a token: it is registered" },
  {
    command: "until mazevault get booking/airline token --show | grep written-at-the-gateway; do sleep 1; done",
    gives: "what was written at the gateway, at the primary",
  },
];

const stable = `until mazevault failover status NPR -o json | grep '"phase": *"stable"'; do sleep 1; done`;

const failoverCommands = (part: Part): readonly GuideCommand[] => [
  {
    command: "kubectl wait --for=condition=Paired gatewayenvironments.mazevault.io/npr",
    gives: "the two gateways are a pair: the primary of NPR acts, its standby does not",
  },
  { command: "mazevault failover status NPR", gives: "who acts, since when, and how both are" },
  { command: part("stop gw-npr-primary"), gives: "the gateway that acts is away" },
  {
    command: "mazevault failover activate-dr NPR",
    gives: "hands NPR over to the standby; nobody acts until what the other one was granted is over, 22 s at most",
  },
  { command: stable, gives: "it is over: gw-npr-dr acts, in a new epoch" },
  { command: part("start gw-npr-primary"), gives: "it is back, and knows that it does not act" },
  { command: untilOpen, gives: "it is in touch" },
  { command: "mazevault failover failback NPR", gives: "hands NPR back" },
  { command: stable, gives: "as before, one epoch later" },
];
