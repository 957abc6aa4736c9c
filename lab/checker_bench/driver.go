// The other side of the benchmark: the same histories, checked by Porcupine, timed inside this process and warm.
//
// Reads one JSON object a line from standard input and answers each with a line: verdict and the times of all
// repetitions in nanoseconds. A check that takes longer than a second has a single repetition.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"hash/maphash"
	"os"
	"time"

	"github.com/anishathalye/porcupine"
)

const null = -1 << 63

var seed = maphash.MakeSeed()

type history struct {
	Name    string     `json:"name"`
	Model   string     `json:"model"`
	Ops     [][6]int64 `json:"ops"` // client, call, return, code, a, b
	Keys    []string   `json:"keys"`
	Texts   []string   `json:"texts"`
	Seconds float64    `json:"seconds"`
	Repeat  int        `json:"repeat"`
}

type operation struct {
	code int64
	a, b int64
	key  string
	text string
}

const (
	read = iota
	write
	cas
	casFailed
	appendTo
	enqueue
	dequeue
	empty
	logRead
	logEnd
	casUnknown = 20
)

func register() porcupine.Model {
	return porcupine.Model{
		Hash: func(state interface{}) uint64 { return uint64(state.(int64)) * 0x9e3779b97f4a7c15 },
		Init: func() interface{} { return int64(null) },
		Step: func(state, input, output interface{}) (bool, interface{}) {
			now, op := state.(int64), input.(operation)
			switch op.code {
			case read:
				return now == op.a, now
			case write:
				return true, op.a
			case cas:
				if now == op.a {
					return true, op.b
				}
				return false, now
			case casUnknown: // it may have failed, or never happened
				if now == op.a {
					return true, op.b
				}
				return true, now
			}
			return now != op.a, now
		},
	}
}

// Offsets are unique where every append was acknowledged, so the length is the whole state: the best case.
func log(ops []operation) porcupine.Model {
	at := map[int64]int64{}
	for _, op := range ops {
		if op.code == appendTo {
			at[op.b] = op.a
		}
	}
	return porcupine.Model{
		Hash: func(state interface{}) uint64 { return uint64(state.(int64)) * 0x9e3779b97f4a7c15 },
		Init: func() interface{} { return int64(0) },
		Step: func(state, input, output interface{}) (bool, interface{}) {
			now, op := state.(int64), input.(operation)
			switch op.code {
			case appendTo:
				return op.b == now || op.b == null, now + 1
			case logRead:
				return op.b < now && at[op.b] == op.a, now
			}
			return now <= op.b, now
		},
	}
}

// A persistent queue: both ends are positions of a list that only grows; equal by the hash of what is in it.
type queue struct {
	items *node
	n     int
	hash  uint64
}

type node struct {
	value int64
	next  *node
}

func fifo() porcupine.Model {
	return porcupine.Model{
		Init: func() interface{} { return queue{} },
		Step: func(state, input, output interface{}) (bool, interface{}) {
			now, op := state.(queue), input.(operation)
			switch op.code {
			case enqueue:
				return true, queue{&node{op.a, now.items}, now.n + 1, 0}
			case empty:
				return now.n == 0, now
			}
			if now.n == 0 {
				return op.a == null, now
			}
			last := now.items
			for i := 1; i < now.n; i++ {
				last = last.next
			}
			if op.a != null && last.value != op.a {
				return false, now
			}
			return true, queue{now.items, now.n - 1, 0}
		},
		Equal: func(x, y interface{}) bool {
			one, two := x.(queue), y.(queue)
			if one.n != two.n {
				return false
			}
			p, q := one.items, two.items
			for i := 0; i < one.n && p != q; i++ {
				if p.value != q.value {
					return false
				}
				p, q = p.next, q.next
			}
			return true
		},
	}
}

func texts() porcupine.Model {
	return porcupine.Model{
		Partition: func(all []porcupine.Operation) [][]porcupine.Operation {
			parts, order := map[string][]porcupine.Operation{}, []string{}
			for _, one := range all {
				key := one.Input.(operation).key
				if _, known := parts[key]; !known {
					order = append(order, key)
				}
				parts[key] = append(parts[key], one)
			}
			out := make([][]porcupine.Operation, 0, len(order))
			for _, key := range order {
				out = append(out, parts[key])
			}
			return out
		},
		Init: func() interface{} { return "" },
		Hash: func(state interface{}) uint64 { return maphash.String(seed, state.(string)) },
		Step: func(state, input, output interface{}) (bool, interface{}) {
			now, op := state.(string), input.(operation)
			switch op.code {
			case read:
				return now == op.text, now
			case write:
				return true, op.text
			}
			return true, now + op.text
		},
	}
}

func main() {
	in := bufio.NewReaderSize(os.Stdin, 1<<20)
	decoder := json.NewDecoder(in)
	for decoder.More() {
		var h history
		if err := decoder.Decode(&h); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		plain := make([]operation, len(h.Ops))
		ops := make([]porcupine.Operation, len(h.Ops))
		for i, row := range h.Ops {
			plain[i] = operation{code: row[3], a: row[4], b: row[5]}
			if h.Keys != nil {
				plain[i].key, plain[i].text = h.Keys[i], h.Texts[i]
			}
			ops[i] = porcupine.Operation{ClientId: int(row[0]), Input: plain[i], Call: row[1], Return: row[2]}
		}
		var model porcupine.Model
		switch h.Model {
		case "append-log":
			model = log(plain)
		case "fifo-queue":
			model = fifo()
		case "kv-append":
			model = texts()
		default:
			model = register()
		}
		times := []int64{}
		verdict := porcupine.Unknown
		for i := 0; i < h.Repeat; i++ {
			begin := time.Now()
			verdict = porcupine.CheckOperationsTimeout(model, ops, time.Duration(h.Seconds*1e9))
			times = append(times, time.Since(begin).Nanoseconds())
			if times[i] > 1e9 {
				break
			}
		}
		line, _ := json.Marshal(map[string]interface{}{"name": h.Name, "verdict": string(verdict), "times": times})
		fmt.Println(string(line))
	}
}
