// What GitOps tools make of an object: Flux by kstatus, Argo CD by a script of Lua. Reads one question a line, answers one a line.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	lua "github.com/yuin/gopher-lua"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
)

type question struct {
	// As the API server gives it.
	Object map[string]any `json:"object"`
	// Of resource.customizations.health; empty for none.
	Script string `json:"script"`
}

type verdict struct {
	Status  string `json:"status"`
	Message string `json:"message"`
}

type answer struct {
	Kstatus *verdict `json:"kstatus,omitempty"`
	Health  *verdict `json:"health,omitempty"`
	Error   string   `json:"error,omitempty"`
}

func main() {
	if len(os.Args) > 1 {
		fmt.Println("reads questions, a line of JSON each")
		return
	}
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 16<<20)
	out := json.NewEncoder(os.Stdout)
	for in.Scan() {
		var asked question
		given := answer{}
		if err := json.Unmarshal(in.Bytes(), &asked); err != nil {
			given.Error = err.Error()
		} else if err := judge(asked, &given); err != nil {
			given.Error = err.Error()
		}
		if err := out.Encode(given); err != nil {
			panic(err)
		}
	}
	if err := in.Err(); err != nil {
		panic(err)
	}
}

func judge(asked question, given *answer) error {
	// Numbers become int64 here, as they are in a client.
	var object unstructured.Unstructured
	text, err := json.Marshal(asked.Object)
	if err != nil {
		return err
	}
	if err := object.UnmarshalJSON(text); err != nil {
		return err
	}
	computed, err := status.Compute(&object)
	if err != nil {
		return fmt.Errorf("kstatus: %w", err)
	}
	given.Kstatus = &verdict{computed.Status.String(), computed.Message}
	if asked.Script == "" {
		return nil
	}
	given.Health, err = health(asked.Object, asked.Script)
	if err != nil {
		return fmt.Errorf("lua: %w", err)
	}
	return nil
}

// Argo CD gives scripts the base and table libraries, no others that ours could lean on, and a second of time.
func health(object map[string]any, script string) (*verdict, error) {
	l := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer l.Close()
	for name, open := range map[string]lua.LGFunction{lua.BaseLibName: lua.OpenBase, lua.TabLibName: lua.OpenTable} {
		if err := l.CallByParam(lua.P{Fn: l.NewFunction(open), Protect: true}, lua.LString(name)); err != nil {
			return nil, err
		}
	}
	limit, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	l.SetContext(limit)
	l.SetGlobal("obj", value(l, object))
	if err := l.DoString(script); err != nil {
		return nil, err
	}
	table, ok := l.Get(-1).(*lua.LTable)
	if !ok {
		return nil, fmt.Errorf("the script returns %s, and not a table", l.Get(-1).Type())
	}
	return &verdict{lua.LVAsString(table.RawGetString("status")), lua.LVAsString(table.RawGetString("message"))}, nil
}

func value(l *lua.LState, of any) lua.LValue {
	switch known := of.(type) {
	case bool:
		return lua.LBool(known)
	case float64:
		return lua.LNumber(known)
	case string:
		return lua.LString(known)
	case []any:
		table := l.NewTable()
		for _, each := range known {
			table.Append(value(l, each))
		}
		return table
	case map[string]any:
		table := l.NewTable()
		for key, each := range known {
			table.RawSetString(key, value(l, each))
		}
		return table
	}
	return lua.LNil
}
