import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;

import org.apache.rocketmq.remoting.RPCHook;
import org.apache.rocketmq.remoting.protocol.RemotingCommand;

/** All requests of one operation. The client writes them in the thread that called it. */
final class Operation {
    private static final ThreadLocal<Operation> CURRENT = new ThreadLocal<>();
    private static final Map<Integer, Call> OPEN = new ConcurrentHashMap<>();

    private final List<Call> calls = new ArrayList<>();

    static Operation begin() {
        Operation made = new Operation();
        CURRENT.set(made);
        return made;
    }

    String end() {
        CURRENT.remove();
        List<String> told = new ArrayList<>();
        for (Call call : calls) {
            OPEN.remove(call.opaque);
            told.add(call.json());
        }
        return "[" + String.join(",", told) + "]";
    }

    static final RPCHook HOOK = new RPCHook() {
        @Override
        public void doBeforeRequest(String address, RemotingCommand request) {
            Operation operation = CURRENT.get();
            if (operation != null) {
                Call call = new Call(String.valueOf(address), request);
                operation.calls.add(call);
                OPEN.put(call.opaque, call);
            }
        }

        @Override
        public void doAfterResponse(String address, RemotingCommand request, RemotingCommand response) {
            Call call = OPEN.get(request.getOpaque());
            if (call != null && response != null) {
                call.answered(response);
            }
        }
    };
}
